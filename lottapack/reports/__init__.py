"""What can be said about a pack, and about this machine: contents, checks, sizes, speed."""
