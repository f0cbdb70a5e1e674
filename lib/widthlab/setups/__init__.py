"""Set-ups of the papers, as far as they are known, named by their bibliography keys."""
