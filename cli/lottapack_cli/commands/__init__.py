"""One file a command: parse, call one library function, hand the result to the sink."""
