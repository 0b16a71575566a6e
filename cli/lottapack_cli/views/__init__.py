"""What people see of a result, as rich tables. Each module takes one result of the library."""
