"""The folder for files that lottapack can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$LOTTAPACK_CACHE``, or else ``lottapack`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises RuntimeError if the user does not have a home folder.
    """
    chosen, shared = os.environ.get("LOTTAPACK_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return (Path(shared) if shared else Path.home() / ".cache") / "lottapack"
