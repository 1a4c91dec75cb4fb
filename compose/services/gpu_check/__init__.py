"""Checks the services on a machine with a GPU and writes down what it measured. Not part of the wheel."""
