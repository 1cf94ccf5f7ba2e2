"""What learning minimises: the distance to the dense model, layer by layer or at the outputs, or a loss of the user's."""
