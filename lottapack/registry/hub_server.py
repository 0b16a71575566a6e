"""Which Hub is asked: that of HF_ENDPOINT, or the one that a reference names by its address."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from huggingface_hub import constants

from lottapack.files.cache_folder import cache_folder
from lottapack.registry import answers

_named: ContextVar[str | None] = ContextVar("lottapack_hub", default=None)


@contextmanager
def at(server: str | None) -> Iterator[None]:
    """Within it, that server is asked; None stands for HF_ENDPOINT's."""
    before = _named.set(server)
    try:
        yield
    finally:
        _named.reset(before)


def endpoint() -> str:
    """The address of the server."""
    return _named.get() or str(constants.ENDPOINT)


def is_own() -> bool:
    """Whether it is HF_ENDPOINT's, for which the token is: no other server is sent it."""
    return answers.origin(endpoint()) == answers.origin(constants.ENDPOINT)


def token() -> bool | None:
    """What the client is told of the token: False where none may be sent, else None, for its own choice."""
    return None if is_own() else False


def cache() -> Path:
    """Where what comes from it is kept. A stranger's repository must not pass for one of the same name on the Hub."""
    if is_own():
        return Path(constants.HF_HUB_CACHE)
    return cache_folder() / "hubs" / re.sub(r"[^A-Za-z0-9.-]", "_", endpoint())
