"""Answers that were computed before: in memory, and in a Redis that several instances may share."""
