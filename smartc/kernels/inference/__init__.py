"""Kernels that TVM compiles, and the walk that makes a network of them."""
