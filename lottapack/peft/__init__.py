"""Adapters of the library PEFT: their folders read into packs, and packs written as their folders.

Both work on files; the library itself need not be installed.
"""
