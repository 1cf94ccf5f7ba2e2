"""Tests of smartc/learning/training."""
