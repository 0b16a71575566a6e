"""The entry point, as the installed script or as ``python -m lottapack_cli``."""

import sys


def main() -> int:
    """Import the command line and run it; Ctrl-C may arrive while it is being imported."""
    try:
        from lottapack_cli import app

        return app.main()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
