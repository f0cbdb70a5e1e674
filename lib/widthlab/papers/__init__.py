"""What belongs to one paper, by its bibliography key: laws, reductions, set-ups.

Nothing else in the library imports this package.
"""
