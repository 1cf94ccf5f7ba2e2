"""Tests of smartc/measuring."""
