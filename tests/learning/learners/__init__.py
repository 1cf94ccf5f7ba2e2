"""Tests of smartc/learning/learners."""
