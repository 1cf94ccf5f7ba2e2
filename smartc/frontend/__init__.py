"""From a user's module or model file to a captured model."""
