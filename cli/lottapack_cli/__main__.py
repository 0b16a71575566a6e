"""``python -m lottapack_cli``: the command line without an installed script."""

import sys

from lottapack_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
