"""Tests of smartc/artifact."""
