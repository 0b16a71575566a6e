"""Where lottapack keeps what it can make or fetch again."""

import os
from pathlib import Path

from lottapack.errors import OutputError


def cache_folder() -> Path:
    """``$LOTTAPACK_CACHE``, or ``lottapack`` in the user's folder for caches, such as ``~/.cache``.

    Raises OutputError if the user has no home folder.
    """
    own = os.environ.get("LOTTAPACK_CACHE")
    try:
        if own:
            return Path(own).expanduser().absolute()
        from platformdirs import user_cache_path

        return user_cache_path("lottapack", appauthor=False).expanduser()
    except RuntimeError as fault:
        raise OutputError(
            f"cannot find the folder for caches: {fault}", hint="Set LOTTAPACK_CACHE to the path of a folder."
        ) from fault
