"""The pack stage: channels in an order in which blocks fill the fewest tiles, and weights without zero tiles."""
