"""Kernel and rich regimes in overparametrized models (Woodworth et al. 2020)."""

from widthlab.papers.woodworth2020kernel.setups import CHAPTER, paper_tier

__all__ = ["CHAPTER", "paper_tier"]
