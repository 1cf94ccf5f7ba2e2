"""Tests of smartc/results."""
