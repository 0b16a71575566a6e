"""Run ``python -m lottapack``: the same command as the installed script."""

import sys

from lottapack_cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
