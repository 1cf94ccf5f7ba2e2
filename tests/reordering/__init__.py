"""Tests of smartc/reordering."""
