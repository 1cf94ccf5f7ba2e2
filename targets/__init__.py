"""Device descriptions and the latency models that read them."""
