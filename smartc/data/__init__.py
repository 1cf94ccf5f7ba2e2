"""Samples to learn from and to compare on, from every source that they come from."""
