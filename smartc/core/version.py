"""The version of smartc."""

__version__ = "0.1.0"
