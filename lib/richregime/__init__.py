"""The book as a program: execute its chapters, check them, build its site.

The commands behind the Makefile, also available as ``python -m richregime``:
`reproduce` (every chapter from scratch in a scratch folder), `execute` (in place, for
authors), `verify`, `status`, `map` and `html`.
"""
