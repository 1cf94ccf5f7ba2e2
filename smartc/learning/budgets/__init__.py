"""Budgets counted in units: which of them a soft or hard mask may keep."""
