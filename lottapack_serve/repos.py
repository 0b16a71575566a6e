"""Create, find, list, change, move and delete repositories."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lottapack_serve.names import check_repo
from lottapack_serve.refusals import RefusedError


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository: its number in the index, its name ``owner/name``, and its time of creation."""

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
    """Format a time in UTC as the Hub does."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def find(db: sqlite3.Connection, owner: str, name: str) -> Repo | None:
    """Return the repository of that name, or None."""
    row = db.execute(f"SELECT {_COLUMNS} FROM repos WHERE owner = ? AND name = ?", (owner, name)).fetchone()
    return None if row is None else _repo(row)


def moved(db: sqlite3.Connection, owner: str, name: str) -> Repo | None:
    """Return the repository that once had that name, if no other has it now."""
    query = f"SELECT {_COLUMNS} FROM moves JOIN repos ON repos.id = repo WHERE moves.owner = ? AND moves.name = ?"
    row = db.execute(query, (owner, name)).fetchone()
    return None if row is None else _repo(row)


def create(db: sqlite3.Connection, owner: str, name: str, *, private: bool) -> Repo:
    """Create an empty repository. Raises RefusedError with status 409 if the name is taken."""
    full = check_repo(owner, name)
    if find(db, owner, name):
        raise RefusedError(409, f"The repository {full} already exists.")
    # A new repository takes the name over from one that moved away.
    db.execute("DELETE FROM moves WHERE owner = ? AND name = ?", (owner, name))
    created = iso(datetime.now(UTC))
    values = (owner, name, private, created)
    number = db.execute("INSERT INTO repos (owner, name, private, created) VALUES (?, ?, ?, ?)", values).lastrowid
    return Repo(number or 0, owner, name, private, created)


def move(db: sqlite3.Connection, repo: Repo, owner: str, name: str) -> None:
    """Rename a repository; the old name redirects to it. Raises RefusedError with status 409 if the name is taken."""
    full = check_repo(owner, name)
    if find(db, owner, name):
        raise RefusedError(409, f"The repository {full} already exists.")
    db.execute("DELETE FROM moves WHERE owner = ? AND name = ?", (owner, name))
    db.execute("INSERT INTO moves VALUES (?, ?, ?)", (repo.owner, repo.name, repo.number))
    db.execute("UPDATE repos SET owner = ?, name = ? WHERE id = ?", (owner, name, repo.number))


def set_private(db: sqlite3.Connection, repo: Repo, private: bool) -> None:
    """Hide a repository from those without a token, or show it."""
    db.execute("UPDATE repos SET private = ? WHERE id = ?", (private, repo.number))


def delete(db: sqlite3.Connection, repo: Repo) -> list[str]:
    """Delete a repository; return and forget the SHA-256 of the blobs that no other one uses."""
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
    """The filter of a listing. ``private``: include private ones. ``tags``: only repositories with all of these.

    ``sort``: "" by name; "updated" or "created" with the newest first. ``after``: the cursor of the previous page.
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

    Number, id and date of its newest commit on ``main``; the SHA-256 of its README.md; ``after``: its cursor.
    """

    repo: Repo
    commit: int
    id: str
    date: str
    readme: str | None
    after: str


# Cross joins make SQLite keep this order: first the repositories by an index, then the rest for each.
_LISTED = f"""SELECT {_COLUMNS}, number, commits.id, date, sha256 FROM repos
    CROSS JOIN refs ON refs.repo = repos.id AND kind = 'heads' AND refs.name = 'main'
    CROSS JOIN commits ON target = number
    LEFT JOIN entries ON revision = number AND folder = '' AND entries.name = 'README.md'"""


def listed(db: sqlite3.Connection, wanted: Wanted, count: int) -> list[Listed]:
    """Return the first ``count`` repositories of a listing. Raises ValueError for an invalid ``after``."""
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
    entries = []
    for *columns, commit, oid, date, readme in db.execute(query, (*values, count)):
        repo = _repo(columns)
        moment = {"updated": date, "created": repo.created}.get(wanted.sort)
        entries.append(Listed(repo, commit, oid, date, readme, f"{moment} {repo.number}" if moment else repo.id))
    return entries
