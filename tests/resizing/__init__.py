"""Tests of smaller modules of the user's own class."""
