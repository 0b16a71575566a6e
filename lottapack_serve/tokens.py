"""Tokens: who may read and who may write. Only their SHA-256 is kept."""

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lottapack.errors import InvalidReferenceError, OutputError
from lottapack_serve.database import Database, existing
from lottapack_serve.names import check_repo
from lottapack_serve.refusals import RefusedError

PREFIX = "lotta_"
"""What tokens begin with, so that a leaked one is found by searching."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is listed: ``rights`` is "read" or "write", ``created`` an ISO time in UTC."""

    name: str
    rights: str
    created: str


def add(root: Path, name: str, rights: str = "read") -> str:
    """Make a token for ``name`` and return its text, which nobody can look up later.

    ``rights``: "read" or "write", which includes reading. Raises OutputError if the name has one already,
    InvalidReferenceError if it cannot be the name of an owner.
    """
    try:
        check_repo(name, "x")
    except RefusedError as fault:
        raise InvalidReferenceError(
            fault.message, hint="Commits are made in a token's name: choose another."
        ) from fault
    if rights not in ("read", "write"):
        raise ValueError(f"unknown rights {rights!r}")
    text = PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with Database(root).write() as db:
        try:
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (name, _digest(text), rights, created))
        except sqlite3.IntegrityError as fault:
            raise OutputError(
                f"there is a token for {name} already", hint="Remove it first, or choose another name."
            ) from fault
    return text


def listed(root: Path) -> list[Token]:
    """All tokens, by name. Raises OutputError if there is no registry in ``root``."""
    with existing(root).read() as db:
        return [Token(*row) for row in db.execute("SELECT name, rights, created FROM tokens ORDER BY name")]


def remove(root: Path, name: str) -> None:
    """Make a token worthless, at once. Raises OutputError if there is none of that name."""
    with existing(root).write() as db:
        if not db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
            raise OutputError(f"there is no token for {name}", hint="See them with: lottapack serve token list")


def find(db: sqlite3.Connection, text: str) -> Token | None:
    """The token of that text."""
    row = db.execute("SELECT name, rights, created FROM tokens WHERE sha256 = ?", (_digest(text),)).fetchone()
    return None if row is None else Token(*row)


def exist(db: sqlite3.Connection) -> bool:
    """Whether there are any."""
    return db.execute("SELECT 1 FROM tokens").fetchone() is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
