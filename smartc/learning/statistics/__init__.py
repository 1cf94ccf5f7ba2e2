"""What samples tell of a network: the energy of inputs, the statistics of batch norms."""
