"""What each learner makes of the same trained networks at equal epochs, on real images."""
