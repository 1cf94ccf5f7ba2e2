"""What each ATen operator is, in one table that rules, layers, energies, prices, targets and lowering read.

A new elementwise operator is one line in ``elementwise``; ``Operator`` says what the line can hold.
"""
