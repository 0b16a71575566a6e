"""Whether this process was forked from another one, whose threads did not come along.

``import lottapack`` imports this module, so that a process that forks later is known to its child. A process that
multiprocessing forked is known even if it is the first to import lottapack.
"""

import os
import sys


def _of_multiprocessing() -> bool:
    """Return whether multiprocessing forked this process: it renames the main module of those that it starts anew."""
    process, main = sys.modules.get("multiprocessing.process"), sys.modules.get("__main__")
    child = process is not None and process.parent_process() is not None
    return child and getattr(main, "__name__", None) != "__mp_main__"


_forked = _of_multiprocessing()


def was_forked() -> bool:
    """Return whether this process was forked, as far as that is known."""
    return _forked


def _note() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note)
