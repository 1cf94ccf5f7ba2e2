"""Tests of smartc/decision."""
