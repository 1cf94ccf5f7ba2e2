"""Tests of smartc/analysis/channels."""
