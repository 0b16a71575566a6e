"""Where lottapack keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$LOTTAPACK_CACHE``, or ``lottapack`` in the user's folder for caches, such as ``~/.cache``.

    Raises RuntimeError if the user has no home folder.
    """
    own = os.environ.get("LOTTAPACK_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("lottapack", appauthor=False).expanduser()
