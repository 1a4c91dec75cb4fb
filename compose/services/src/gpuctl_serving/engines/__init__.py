"""Engines: one model on one device behind one protocol, and the queue in front of it."""
