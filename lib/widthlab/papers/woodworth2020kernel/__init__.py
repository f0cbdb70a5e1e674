"""Kernel and rich regimes in overparametrized models (Woodworth et al. 2020)."""
