"""What is compiled for what, what was decided, and the plan that says so."""
