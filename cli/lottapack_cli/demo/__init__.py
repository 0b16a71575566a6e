"""``lottapack demo``: train, pack, rebuild in a new process, compare."""
