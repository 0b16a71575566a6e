"""The Hub to ask: that of HF_ENDPOINT, or the one that a reference names by its address."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants

from lottapack.files.cache_folder import cache_folder
from lottapack.registry import answers

_named: ContextVar[str | None] = ContextVar("lottapack_hub", default=None)


@contextmanager
def at(server: str | None) -> Iterator[None]:
    """Ask that server inside this context; None means HF_ENDPOINT's."""
    before = _named.set(server)
    try:
        yield
    finally:
        _named.reset(before)


def endpoint() -> str:
    """Return the address of the server."""
    return _named.get() or str(constants.ENDPOINT)


def is_own() -> bool:
    """Return whether the server is HF_ENDPOINT's, the only one that gets the token. One host may hold several."""
    return _address(endpoint()) == _address(str(constants.ENDPOINT))


def _address(server: str) -> tuple[str, str, int, str]:
    return *answers.origin(server), urlsplit(server).path.rstrip("/")


def token() -> bool | None:
    """Return the client's token argument: False if none may be sent, else None for its own choice."""
    return None if is_own() else False


def setting() -> str:
    """Return the environment variable that moves the cache for the server."""
    return "HF_HOME" if is_own() else "LOTTAPACK_CACHE"


def cache() -> Path:
    """Return the cache for the server. A repository of another server must not pass for one of the Hub."""
    if is_own():
        return Path(constants.HF_HUB_CACHE)
    return cache_folder() / "hubs" / re.sub(r"[^A-Za-z0-9.-]", "_", endpoint())
