"""Strict JSON: one form a value, bounded depth and size, and views that make a value only when it is needed."""
