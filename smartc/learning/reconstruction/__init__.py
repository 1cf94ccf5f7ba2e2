"""Weights that are left, refitted in closed form to what the dense layers compute."""
