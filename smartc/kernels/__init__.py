"""Code for this processor, as TVM compiles it: what inference and training kernels share."""
