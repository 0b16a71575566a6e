"""Who asks, and what they may do."""

import ipaddress
import re
import sqlite3
from dataclasses import dataclass

from starlette.requests import Request

from lottapack_serve import repos, tokens
from lottapack_serve.refusals import MovedError, RefusedError, repo_not_found
from lottapack_serve.registry import Rules
from lottapack_serve.repos import Repo

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


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_FOREIGN = frozenset(
    {
        *("origin", "referer"),  # pages
        *("forwarded", "via", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip"),
        *("x-cluster-client-ip", "fastly-client-ip", "x-envoy-external-address", "x-original-host", "x-host"),
    }
)
"""Headers that programs on this machine do not send, but web pages and proxies do; and all that begin with:"""
_FOREIGN_BEGIN = ("x-forwarded", "x-original-forwarded")


def host_name(header: str) -> str | None:
    """The name or address in a Host header, without its port, in lower case; None if it is none of a host."""
    match = _HOST.fullmatch(header)
    return match[1].lower() if match else None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def identify(db: sqlite3.Connection, request: Request, rules: Rules) -> Caller:
    """Who asks.

    Raises RefusedError of status 401 for a token that is not known, of 403 for a request by a name of the host that
    this registry does not answer to, and, while there are no tokens, for one from a web page or through a proxy: the
    same for reading and for writing.
    """
    host = host_name(request.headers.get("host", "")) or ""
    by_name = is_loopback(host) or host in rules.hosts
    if rules.hosts and not by_name:
        raise RefusedError(403, f"This registry does not answer to the name {host!r}: see --allow-host.")
    if rules.open_while_no_tokens and not tokens.exist(db):
        if not by_name or _is_foreign(request):
            raise RefusedError(
                403,
                "Without tokens this registry answers programs on its own machine only, not web pages, proxies or other"
                " names of the machine. Add a token: lottapack serve token add NAME --write; or name the host that is "
                "meant: --allow-host NAME",
            )
        return Caller(LOCAL, may_write=True, may_read=True)
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return Caller("", may_write=False, may_read=rules.anonymous_read)
    token = tokens.find(db, text.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        # The words that clients tell a wrong token by.
        raise RefusedError(401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"})
    return Caller(token.name, may_write=token.rights == "write", may_read=True)


def _is_foreign(request: Request) -> bool:
    """Whether a web page in a browser asks, or a proxy for others."""
    names = request.headers.keys()
    if any(name in _FOREIGN or name.startswith(_FOREIGN_BEGIN) for name in names):
        return True
    return request.headers.get("sec-fetch-site", "none") != "none"  # none: its user has typed the address


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
