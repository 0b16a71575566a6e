"""Reports about a pack and about this machine: contents, checks, sizes and speed."""
