"""What each ATen operator is, in one table that rules, layers, energies, prices, targets and lowering read."""
