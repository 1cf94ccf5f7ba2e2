"""Tests of smartc/analysis."""
