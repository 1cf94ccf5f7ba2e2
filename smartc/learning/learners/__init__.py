"""Where masks come from: one learner per file, listed in the registry."""
