"""Tests of smartc/selection."""
