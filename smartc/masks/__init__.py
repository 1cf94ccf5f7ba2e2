"""What a mask keeps or removes: granularities, units, how they lie in weights, and weights without their zero tiles."""
