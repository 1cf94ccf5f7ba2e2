"""Tests of smartc/lowering."""
