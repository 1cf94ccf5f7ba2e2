"""What learning masks does in every step, in kernels that TVM compiles for this processor: fewer passes over memory."""
