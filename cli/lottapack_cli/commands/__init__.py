"""One file per command: it parses, calls one library function and passes the result to the output."""
