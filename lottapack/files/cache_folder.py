"""Where lottapack keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$LOTTAPACK_CACHE``, or ``lottapack`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises RuntimeError where there is no home.
    """
    own, shared = os.environ.get("LOTTAPACK_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser().absolute()
    return (Path(shared) if shared else Path.home() / ".cache") / "lottapack"
