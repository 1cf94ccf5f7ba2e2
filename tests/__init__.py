"""Tests of smartc."""
