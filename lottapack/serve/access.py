"""Who asks, and what they may do."""

import ipaddress
import sqlite3
from dataclasses import dataclass

from starlette.requests import Request

from lottapack.serve import repos, tokens
from lottapack.serve.refusals import MovedError, RefusedError, repo_not_found
from lottapack.serve.registry import Rules
from lottapack.serve.repos import Repo

LOCAL = "local"
"""The name of whoever uses a registry without tokens."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: ``name`` is empty for those without a token."""

    name: str
    may_write: bool
    may_read: bool

    @property
    def known(self) -> bool:
        """Whether a token came along, or none is needed."""
        return bool(self.name)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def identify(db: sqlite3.Connection, request: Request, rules: Rules) -> Caller:
    """Who asks. Raises RefusedError of status 401 for a token that is not known."""
    if rules.open_while_no_tokens and not tokens.exist(db):
        return Caller(LOCAL, may_write=_is_from_here(request), may_read=True)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return Caller("", may_write=False, may_read=rules.anonymous_read)
    token = tokens.find(db, text.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        # The words that clients tell a wrong token by.
        raise RefusedError(401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"})
    return Caller(token.name, may_write=token.rights == "write", may_read=True)


def _is_from_here(request: Request) -> bool:
    """Whether a program on this machine asks, and neither a web page in its browser nor a proxy for others."""
    headers = request.headers
    foreign = ("origin", "forwarded", "x-forwarded-for", "x-forwarded-host")
    return is_loopback(request.url.hostname or "") and not any(name in headers for name in foreign)


def require_read(caller: Caller) -> None:
    """Raises RefusedError of status 401 for those who need a token to read anything."""
    if not caller.may_read:
        raise RefusedError(401, "A token is needed to read from this registry.", headers={"WWW-Authenticate": "Bearer"})


def require_write(caller: Caller) -> None:
    """Raises RefusedError of status 401 without a token, 403 with one that can only read."""
    if caller.may_write:
        return
    if not caller.known:
        raise RefusedError(401, "A token is needed to write to this registry.", headers={"WWW-Authenticate": "Bearer"})
    if caller.name == LOCAL:
        raise RefusedError(
            403,
            "Without tokens this registry takes changes from programs on its own machine only, not from web pages or "
            "through proxies. Add a token: lottapack serve token add NAME --write",
        )
    raise RefusedError(403, f"The token of {caller.name} can only read. Ask for one made with --write.")


def find_repo(db: sqlite3.Connection, caller: Caller, owner: str, name: str) -> Repo:
    """A repository that the caller may see. Raises RefusedError of status 401 or 404, or MovedError."""
    require_read(caller)
    found = repos.find(db, owner, name)
    elsewhere = None if found else repos.moved(db, owner, name)
    seen = found or elsewhere
    if seen is None or (seen.private and not caller.known):
        raise repo_not_found(f"{owner}/{name}", anonymous=not caller.known)
    if elsewhere:
        raise MovedError(elsewhere.id)
    return seen
