"""``python -m lottapack``: the command, as the installed script runs it."""

import sys

from lottapack_cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
