"""Tests of smartc/learning."""
