"""Tests of smartc/kernels/inference."""
