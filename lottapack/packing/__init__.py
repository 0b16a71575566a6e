"""Into a pack: from whatever a trainer saved to one file."""
