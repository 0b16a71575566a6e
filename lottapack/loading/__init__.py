"""Load packs: as a ready model on one device or many, or as arrays."""
