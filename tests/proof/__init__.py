"""Tests of smartc/proof."""
