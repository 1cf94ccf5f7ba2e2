"""Tests of smartc/ir."""
