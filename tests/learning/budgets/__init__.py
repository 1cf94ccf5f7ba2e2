"""Tests of smartc/learning/budgets."""
