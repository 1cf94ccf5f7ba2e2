"""Tests of smartc/learning/reconstruction."""
