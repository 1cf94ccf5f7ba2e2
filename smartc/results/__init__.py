"""What a compile found: the report's figures and how they are written."""
