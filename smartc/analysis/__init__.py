"""What is known of a captured model: its channels, its layers, and what they cost on a target."""
