"""Out of a pack: a ready model on one device or on many, or its arrays."""
