"""What every stage's outputs are compared with, and by how much they may differ."""
