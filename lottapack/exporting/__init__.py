"""Export packs to files that other tools open."""
