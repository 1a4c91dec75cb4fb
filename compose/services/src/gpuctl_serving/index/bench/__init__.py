"""Measures index types against exact search, on the CPU and, where there is one, on a GPU."""
