"""What learning minimises: the distance to the dense model, layer by layer or in all, or a loss of the user's."""
