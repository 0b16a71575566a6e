"""Results as rich tables. Each module shows one result type of the library."""
