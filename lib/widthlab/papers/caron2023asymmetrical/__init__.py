"""What belongs to Caron et al. 2023 on asymmetrical node scaling."""
