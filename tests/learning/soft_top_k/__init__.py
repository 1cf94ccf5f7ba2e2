"""Tests of smartc/learning/soft_top_k."""
