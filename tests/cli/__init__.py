"""Tests of smartc/cli."""
