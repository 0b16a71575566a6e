"""Strict JSON: one text for each value, bounded depth and size, and views that build values only on demand."""
