"""MLPs at the edge of chaos (Terjék 2025)."""
