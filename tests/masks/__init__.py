"""Tests of smartc/masks."""
