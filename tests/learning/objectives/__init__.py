"""Tests of smartc/learning/objectives."""
