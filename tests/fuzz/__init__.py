"""Mutated inputs of every reader; see CONTRIBUTING on running them for hours."""
