"""Identify callers and check their rights."""

import ipaddress
import re
import sqlite3
from dataclasses import dataclass

from starlette.requests import Request

from lottapack_serve import repos, tokens
from lottapack_serve.bodies import part, registry_of
from lottapack_serve.html.sessions import COOKIE, Sessions
from lottapack_serve.refusals import MovedError, RefusedError, repo_not_found
from lottapack_serve.repos import Repo

LOCAL = "local"
"""The name of the caller of a registry without tokens."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller. ``name`` is empty for callers without a token."""

    name: str
    may_write: bool
    may_read: bool

    @property
    def known(self) -> bool:
        """Whether the caller has a token, or does not need one."""
        return bool(self.name)


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_FOREIGN = frozenset(
    {
        *("origin", "referer"),  # pages
        *("forwarded", "via", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip"),
        *("x-cluster-client-ip", "fastly-client-ip", "x-envoy-external-address", "x-original-host", "x-host"),
    }
)
"""Headers that web pages and proxies send, but programs on this machine do not; and prefixes of such headers:"""
_FOREIGN_BEGIN = ("x-forwarded", "x-original-forwarded")


def host_name(header: str) -> str | None:
    """Return the name or address in a Host header, without its port, in lower case; None if it is not valid."""
    match = _HOST.fullmatch(header)
    return match[1].lower() if match else None


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is that of this machine itself."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def identify(db: sqlite3.Connection, request: Request) -> Caller:
    """Identify the caller.

    Raises RefusedError with status 401 for an unknown token, and 403 for a request to a host name that this registry
    does not serve. Without tokens, also raises 403 for requests from web pages or through proxies, for
    reading and writing alike.
    """
    rules = registry_of(request).rules
    by_name = check_host(request)
    if rules.open_while_no_tokens and not tokens.exist(db):
        if not by_name or _is_foreign(request):
            raise RefusedError(
                403,
                "Without tokens this registry only serves programs on its own machine, not web pages, proxies or "
                "other names of the machine. Add a token with: lottapack serve token add NAME --write; or allow the "
                "name with --allow-host NAME",
            )
        return Caller(LOCAL, may_write=True, may_read=True)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return _of_session(db, request) or Caller("", may_write=False, may_read=rules.anonymous_read)
    token = tokens.find(db, text.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        # Clients recognise a wrong token by these words.
        raise RefusedError(401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"})
    return Caller(token.name, may_write=token.rights == "write", may_read=True)


def check_host(request: Request) -> bool:
    """Return whether the request names this machine, or a host of the rules.

    Raises RefusedError with status 403 if the rules name hosts, and the request another one.
    """
    rules = registry_of(request).rules
    host = host_name(request.headers.get("host", "")) or ""
    by_name = is_loopback(host) or host in rules.hosts
    if rules.hosts and not by_name:
        raise RefusedError(
            403, f"This registry does not serve the host name {host!r}. Start it with --allow-host {host} to allow it."
        )
    return by_name


def _of_session(db: sqlite3.Connection, request: Request) -> Caller | None:
    """Return the reader whose browser has a session here, or None."""
    name = request.cookies.get(COOKIE, "")
    if not name or not _reads_here(request):
        return None
    sessions = request.app.state.sessions
    assert isinstance(sessions, Sessions)
    digest = sessions.token(name)
    token = tokens.hashed(db, digest) if digest else None
    return Caller(token.name, may_write=False, may_read=True) if token else None


def _reads_here(request: Request) -> bool:
    """Return whether the request only reads, and no other site's page made it.

    The browser itself says which site a request comes from; no page can change that. ``none``: the user typed the
    address.
    """
    return request.method in ("GET", "HEAD") and request.headers.get("sec-fetch-site", "none") in (
        "none",
        "same-origin",
    )


def _is_foreign(request: Request) -> bool:
    """Return whether a proxy or another site's page sent the request, or a page of this registry that writes."""
    names = set(request.headers.keys())
    if request.headers.get("sec-fetch-site") == "same-origin" and _reads_here(request):
        names -= {"origin", "referer", "sec-fetch-site"}
    if any(name in _FOREIGN or name.startswith(_FOREIGN_BEGIN) for name in names):
        return True
    return "sec-fetch-site" in names and request.headers["sec-fetch-site"] != "none"


def reader(db: sqlite3.Connection, request: Request) -> Caller:
    """Return a caller who may read. Raises RefusedError with status 401 for those who need a token."""
    caller = identify(db, request)
    _require_read(caller)
    return caller


def writer(db: sqlite3.Connection, request: Request) -> Caller:
    """Return a caller who may write. Raises the errors of require_write()."""
    caller = identify(db, request)
    require_write(caller)
    return caller


def visible(db: sqlite3.Connection, request: Request) -> tuple[Caller, Repo]:
    """Return the caller, and the repository that the address names. Raises the errors of find_repo()."""
    caller = identify(db, request)
    return caller, find_repo(db, caller, part(request, "owner"), part(request, "name"))


def writable(db: sqlite3.Connection, request: Request) -> tuple[Caller, Repo]:
    """Return the same for a caller who may write. Raises the errors of find_repo() and require_write()."""
    caller, repo = visible(db, request)
    require_write(caller)
    return caller, repo


def _require_read(caller: Caller) -> None:
    if not caller.may_read:
        raise RefusedError(401, "Reading from this registry needs a token.", headers={"WWW-Authenticate": "Bearer"})


def require_write(caller: Caller) -> None:
    """Raise RefusedError with status 401 without a token, and 403 for a token that can only read."""
    if caller.may_write:
        return
    if not caller.known:
        raise RefusedError(401, "Writing to this registry needs a token.", headers={"WWW-Authenticate": "Bearer"})
    raise RefusedError(403, f"The token of {caller.name} can only read. Ask for one created with --write.")


def find_repo(db: sqlite3.Connection, caller: Caller, owner: str, name: str) -> Repo:
    """Return a repository that the caller may see. Raises RefusedError with status 401 or 404, or MovedError."""
    _require_read(caller)
    here = repos.find(db, owner, name)
    moved_to = None if here else repos.moved(db, owner, name)
    visible = here or moved_to
    if visible is None or (visible.private and not caller.known):
        raise repo_not_found(f"{owner}/{name}", anonymous=not caller.known)
    if moved_to:
        raise MovedError(moved_to.id)
    return visible
