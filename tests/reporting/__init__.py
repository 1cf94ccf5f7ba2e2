"""Tests of smartc/reporting."""
