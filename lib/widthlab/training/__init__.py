"""Training: ensembles of networks of one shape, and what one run passes round."""
