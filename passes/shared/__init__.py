"""What passes share: their form, the runner that checks the graph after each, and literal sizes."""
