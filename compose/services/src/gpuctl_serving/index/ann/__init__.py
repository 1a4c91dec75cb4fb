"""Nearest neighbours: index types by size, their training and promotion, the GPU's copy."""
