"""Write packs from what a trainer saved."""
