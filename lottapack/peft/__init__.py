"""Adapters of the PEFT library: read their folders into packs, and write packs as their folders.

Both work on files; PEFT itself need not be installed.
"""
