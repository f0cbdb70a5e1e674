"""``python -m widthlab``: the command line."""

from widthlab.cli import script

if __name__ == "__main__":
    script()
