"""A service inside a container: who it is and where its files are come from mounts, not from a keeper."""
