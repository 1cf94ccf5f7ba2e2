"""Channels in another order, for good, so that the blocks that are left fill fewer tiles."""
