"""Tests of smartc/kernels/training."""
