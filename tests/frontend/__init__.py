"""Tests of smartc/frontend."""
