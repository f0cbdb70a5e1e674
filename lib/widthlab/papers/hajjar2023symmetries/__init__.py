"""Symmetries in the dynamics of wide two-layer networks (Hajjar and Chizat 2023)."""
