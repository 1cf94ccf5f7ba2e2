"""Learning masks: differentiable top-k, learners, objectives, recovery."""
