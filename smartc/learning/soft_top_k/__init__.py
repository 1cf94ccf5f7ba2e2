"""The differentiable top-k: soft masks that come to a budget, and their gradients."""
