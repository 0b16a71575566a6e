"""Codings with a form of their own in the file, each one class that encodes and decodes (spec: codings)."""
