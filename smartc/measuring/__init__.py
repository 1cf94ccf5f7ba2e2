"""Times on this machine: the cost table, whole networks layer by layer, and what they decide."""
