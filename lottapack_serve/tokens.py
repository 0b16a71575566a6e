"""Tokens: who may read and who may write. Only their SHA-256 is stored."""

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike

from lottapack.errors import InvalidReferenceError, OutputError, UnsupportedError
from lottapack_serve.database import Database, existing
from lottapack_serve.names import check_repo
from lottapack_serve.refusals import RefusedError

PREFIX = "lotta_"
"""The prefix of tokens, by which a leaked one can be found."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token in a list. ``rights``: "read" or "write". ``created``: an ISO time in UTC."""

    name: str
    rights: str
    created: str


def add(root: str | PathLike[str], name: str, rights: str = "read") -> str:
    """Create a token for ``name`` and return its text, which cannot be looked up later.

    ``rights``: "read" or "write", which includes reading. Raises OutputError if the name already has a token,
    InvalidReferenceError if it cannot be the name of an owner.
    """
    try:
        check_repo(name, "x")
    except RefusedError as fault:
        raise InvalidReferenceError(
            fault.message, hint="Choose another name, because commits carry the name of the token."
        ) from fault
    if rights not in ("read", "write"):
        raise UnsupportedError(f"unknown rights {rights!r}", hint='Choose "read" or "write".')
    text = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with Database(root).write() as db:
        try:
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (name, digest(text), rights, created))
        except sqlite3.IntegrityError as fault:
            raise OutputError(f"{name} already has a token", hint="Remove it first, or choose another name.") from fault
    return text


def listed(root: str | PathLike[str]) -> list[Token]:
    """Return all tokens by name. Raises OutputError if ``root`` does not contain a registry."""
    with existing(root).read() as db:
        return [Token(*row) for row in db.execute("SELECT name, rights, created FROM tokens ORDER BY name")]


def remove(root: str | PathLike[str], name: str) -> None:
    """Revoke a token at once. Raises OutputError if the name does not have one."""
    with existing(root).write() as db:
        if not db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
            raise OutputError(f"{name} does not have a token", hint="List all tokens with: lottapack serve token list")


def find(db: sqlite3.Connection, text: str) -> Token | None:
    """Return the token of that text, or None."""
    return hashed(db, digest(text))


def hashed(db: sqlite3.Connection, sha256: str) -> Token | None:
    """Return the token whose text has that SHA-256, or None."""
    row = db.execute("SELECT name, rights, created FROM tokens WHERE sha256 = ?", (sha256,)).fetchone()
    return None if row is None else Token(*row)


def exist(db: sqlite3.Connection) -> bool:
    """Return whether there are any tokens."""
    return db.execute("SELECT 1 FROM tokens").fetchone() is not None


def digest(text: str) -> str:
    """Return the SHA-256 under which a token is stored."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
