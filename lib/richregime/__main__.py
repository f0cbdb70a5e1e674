"""``python -m richregime``: the command line."""

from richregime.cli import script

if __name__ == "__main__":
    script()
