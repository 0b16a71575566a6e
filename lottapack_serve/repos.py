"""Repositories: make, find, list, change, move, delete."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lottapack_serve.names import check_repo
from lottapack_serve.refusals import RefusedError


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
    query = (
        "SELECT DISTINCT sha256 FROM entries JOIN commits ON revision = number WHERE repo = ? AND sha256 IS NOT NULL"
    )
    used = [row[0] for row in db.execute(query, (repo.number,))]
    db.execute("DELETE FROM refs WHERE repo = ?", (repo.number,))
    db.execute("DELETE FROM entries WHERE revision IN (SELECT number FROM commits WHERE repo = ?)", (repo.number,))
    db.execute("UPDATE commits SET parent = NULL WHERE repo = ?", (repo.number,))
    db.execute("DELETE FROM repos WHERE id = ?", (repo.number,))
    lonely = [
        sha256 for sha256 in used if not db.execute("SELECT 1 FROM entries WHERE sha256 = ?", (sha256,)).fetchone()
    ]
    db.executemany("DELETE FROM blobs WHERE sha256 = ?", [(sha256,) for sha256 in lonely])
    return lonely


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which repositories a listing is of. ``private``: also private ones; ``tags``: all of which they have.

    ``sort``: "" by name, "updated" or "created" the newest first; ``after``: as the last entry of the page before says.
    """

    private: bool
    author: str | None = None
    search: str = ""
    tags: tuple[str, ...] = ()
    sort: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A repository in a listing.

    Number, id and date of its newest commit on ``main``; the SHA-256 of its README.md; ``after``: for Wanted.
    """

    repo: Repo
    commit: int
    id: str
    date: str
    readme: str | None
    after: str


# Cross joins keep SQLite to this order: the repositories by an index, and of each the rest.
_LISTED = f"""SELECT {_COLUMNS}, number, commits.id, date, sha256 FROM repos
    CROSS JOIN refs ON refs.repo = repos.id AND kind = 'heads' AND refs.name = 'main'
    CROSS JOIN commits ON target = number
    LEFT JOIN entries ON revision = number AND folder = '' AND entries.name = 'README.md'"""


def listed(db: sqlite3.Connection, wanted: Wanted, count: int) -> list[Listed]:
    """The first ``count`` repositories of a listing. Raises ValueError for an ``after`` that no page gave."""
    where: list[str] = ["1"]
    values: list[object] = []

    def require(condition: str, *arguments: object) -> None:
        where.append(condition)
        values.extend(arguments)

    if not wanted.private:
        require("private = 0")
    if wanted.author is not None:
        require("owner = ?", wanted.author)
    if wanted.search:
        require("instr(lower(owner || '/' || repos.name), ?)", wanted.search.lower())
    for tag in wanted.tags:
        require("repos.id IN (SELECT repo FROM topics WHERE tag = ?)", tag)
    if wanted.sort in ("updated", "created"):
        order = f"{wanted.sort} DESC, repos.id DESC"
        if wanted.after:
            date, number = wanted.after.split(" ")
            require(f"({wanted.sort}, repos.id) < (?, ?)", date, int(number[:18]))
    else:
        order = "owner, repos.name"
        if wanted.after:
            owner, name = wanted.after.split("/")
            require("(owner, repos.name) > (?, ?)", owner, name)
    query = f"{_LISTED} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?"
    found = []
    for *columns, commit, oid, date, readme in db.execute(query, (*values, count)):
        repo = _repo(columns)
        moment = {"updated": date, "created": repo.created}.get(wanted.sort)
        found.append(Listed(repo, commit, oid, date, readme, f"{moment} {repo.number}" if moment else repo.id))
    return found
