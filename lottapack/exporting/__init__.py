"""Out of a pack: files that other tools open."""
