"""The command line of lottapack: thin commands over the library."""
