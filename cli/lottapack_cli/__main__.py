"""The entry point, as the installed script or as ``python -m lottapack_cli``."""

import signal
import sys
from types import FrameType

_interrupted = False


def main() -> int:
    """Import the command line and run it.

    Ctrl-C may arrive while something is being imported. Some libraries drop the exception, and are then imported in
    part: whatever fails afterwards is reported as the interruption that it is.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from lottapack_cli import app

        return app.main()
    except BaseException as fault:
        if not (_interrupted or isinstance(fault, KeyboardInterrupt)):
            raise
        print("error: interrupted", file=sys.stderr)
        if "--json" in sys.argv:
            print(INTERRUPTED_OBJECT)
        return 130


INTERRUPTED_OBJECT = (
    '{"ok": false, "error": {"kind": "Interrupted", "message": "interrupted", "hint": "", "problems": []}, '
    '"warnings": []}'
)
"""What ``--json`` prints where the module that makes JSON may not be imported."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    signal.default_int_handler(number, frame)


if __name__ == "__main__":
    sys.exit(main())
