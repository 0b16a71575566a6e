"""``lottapack demo``: train, pack, push, pull, rebuild in a new process, compare."""
