"""Tests of smartc/data."""
