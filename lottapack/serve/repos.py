"""Repositories: make, find, list, change, move, delete."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lottapack.serve.names import check_repo
from lottapack.serve.refusals import RefusedError


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository: its number in the index, its name ``owner/name``, when it was made."""

    number: int
    owner: str
    name: str
    private: bool
    created: str

    @property
    def id(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


_COLUMNS = "repos.id, repos.owner, repos.name, private, created"


def _repo(row: Sequence[object]) -> Repo:
    number, owner, name, private, created = row
    return Repo(int(str(number)), str(owner), str(name), bool(private), str(created))


def iso(moment: datetime) -> str:
    """A time, in UTC, in the form of the Hub's answers."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def find(db: sqlite3.Connection, owner: str, name: str) -> Repo | None:
    """The repository of that name."""
    row = db.execute(f"SELECT {_COLUMNS} FROM repos WHERE owner = ? AND name = ?", (owner, name)).fetchone()
    return None if row is None else _repo(row)


def moved(db: sqlite3.Connection, owner: str, name: str) -> Repo | None:
    """The repository that had that name once, if no other has it now."""
    query = f"SELECT {_COLUMNS} FROM moves JOIN repos ON repos.id = repo WHERE moves.owner = ? AND moves.name = ?"
    row = db.execute(query, (owner, name)).fetchone()
    return None if row is None else _repo(row)


def create(db: sqlite3.Connection, owner: str, name: str, *, private: bool) -> Repo:
    """Make an empty repository. Raises RefusedError of status 409 if there is one of that name."""
    full = check_repo(owner, name)
    if find(db, owner, name):
        raise RefusedError(409, f"There is a repository {full} already.")
    # A new repository takes the name over from one that moved away.
    db.execute("DELETE FROM moves WHERE owner = ? AND name = ?", (owner, name))
    created = iso(datetime.now(UTC))
    values = (owner, name, private, created)
    number = db.execute("INSERT INTO repos (owner, name, private, created) VALUES (?, ?, ?, ?)", values).lastrowid
    return Repo(number or 0, owner, name, private, created)


def move(db: sqlite3.Connection, repo: Repo, owner: str, name: str) -> None:
    """Give a repository another name; the old one leads to it. Raises RefusedError of status 409 if that is taken."""
    full = check_repo(owner, name)
    if find(db, owner, name):
        raise RefusedError(409, f"There is a repository {full} already.")
    db.execute("DELETE FROM moves WHERE owner = ? AND name = ?", (owner, name))
    db.execute("INSERT INTO moves VALUES (?, ?, ?)", (repo.owner, repo.name, repo.number))
    db.execute("UPDATE repos SET owner = ?, name = ? WHERE id = ?", (owner, name, repo.number))


def set_private(db: sqlite3.Connection, repo: Repo, private: bool) -> None:
    """Hide a repository from those without a token, or show it."""
    db.execute("UPDATE repos SET private = ? WHERE id = ?", (private, repo.number))


def delete(db: sqlite3.Connection, repo: Repo) -> list[str]:
    """Delete a repository; returns the SHA-256 of the blobs that no other one uses, forgotten too."""
    query = "SELECT DISTINCT sha256 FROM files JOIN commits ON revision = number WHERE repo = ?"
    used = [row[0] for row in db.execute(query, (repo.number,))]
    db.execute("DELETE FROM refs WHERE repo = ?", (repo.number,))
    db.execute("DELETE FROM files WHERE revision IN (SELECT number FROM commits WHERE repo = ?)", (repo.number,))
    db.execute("UPDATE commits SET parent = NULL WHERE repo = ?", (repo.number,))
    db.execute("DELETE FROM repos WHERE id = ?", (repo.number,))
    lonely = [sha256 for sha256 in used if not db.execute("SELECT 1 FROM files WHERE sha256 = ?", (sha256,)).fetchone()]
    db.executemany("DELETE FROM blobs WHERE sha256 = ?", [(sha256,) for sha256 in lonely])
    return lonely


def listed(
    db: sqlite3.Connection, *, private: bool, author: str | None = None, search: str | None = None, after: str = ""
) -> list[Repo]:
    """Repositories by name, those after ``after``; private ones only if asked for."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM repos WHERE private <= ? ORDER BY owner, name", (private,))
    found = [_repo(row) for row in rows]
    wanted = (search or "").lower()
    return [
        repo
        for repo in found
        if (author is None or repo.owner == author) and wanted in repo.id.lower() and repo.id > after
    ]
