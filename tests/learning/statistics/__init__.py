"""Tests of smartc/learning/statistics."""
