"""The report: its figures, and how they are shown."""
