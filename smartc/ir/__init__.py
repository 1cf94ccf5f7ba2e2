"""The intermediate representation: a captured model, and what its operators are."""
