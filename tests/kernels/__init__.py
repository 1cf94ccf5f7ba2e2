"""Tests of smartc/kernels."""
