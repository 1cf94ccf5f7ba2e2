"""The training loop: steps, checkpoints, optimizers, several processes, and the masks in it."""
