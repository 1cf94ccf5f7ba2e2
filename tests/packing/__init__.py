"""Tests of smartc/packing."""
