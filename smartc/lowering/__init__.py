"""From a TracedModel to files that run without smartc, each proved against the masked original."""
