"""Folders and checkpoints: what other libraries and trainers write, and what they open."""
