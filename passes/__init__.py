"""Analyses and graph transformations, a file each."""
