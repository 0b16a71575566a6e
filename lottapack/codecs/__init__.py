"""Codings with their own form in the file; one class encodes and decodes each (spec: codings)."""
