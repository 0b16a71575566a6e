"""Branches, tags and the commits that they name."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lottapack_serve.limits import MAX_REFS
from lottapack_serve.names import check_ref, is_commit
from lottapack_serve.refusals import RefusedError, bad_request, revision_not_found, too_large
from lottapack_serve.repos import Repo

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its number in the index, its id and its message. ``date``: ISO, in UTC."""

    number: int
    id: str
    author: str
    date: str
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch (``heads``) or tag (``tags``) with the id of its commit."""

    kind: str
    name: str
    commit: str


_COMMIT = "commits.number, commits.id, author, date, title, message"


def _commit(row: Sequence[object]) -> Commit:
    number, *texts = row
    return Commit(int(str(number)), *map(str, texts))


def branch(db: sqlite3.Connection, repo: Repo, name: str) -> Commit | None:
    """Return the newest commit of a branch, or None if the branch does not exist."""
    return _target(db, repo, "heads", name.removeprefix("refs/heads/"))


def resolve(db: sqlite3.Connection, repo: Repo, revision: str) -> Commit:
    """Return the commit that a branch, tag or commit id names.

    Raises RefusedError with status 404, or 409 if it names both a branch and a tag (older registries allowed that).
    """
    commit, tag = branch(db, repo, revision), _target(db, repo, "tags", revision.removeprefix("refs/tags/"))
    if commit and tag and commit != tag:
        raise RefusedError(
            409,
            f"{repo.id} has a branch and a tag {revision!r}, at different commits. "
            f"Use the full name of one: refs/heads/{revision} or refs/tags/{revision}.",
        )
    commit = commit or tag
    if commit is None and is_commit(revision):
        query = f"SELECT {_COMMIT} FROM commits WHERE repo = ? AND id = ?"
        row = db.execute(query, (repo.number, revision)).fetchone()
        commit = None if row is None else _commit(row)
    if commit is None:
        raise revision_not_found(repo.id, revision)
    return commit


def _target(db: sqlite3.Connection, repo: Repo, kind: str, name: str) -> Commit | None:
    query = (
        f"SELECT {_COMMIT} FROM refs JOIN commits ON target = number WHERE refs.repo = ? AND kind = ? AND refs.name = ?"
    )
    row = db.execute(query, (repo.number, kind, name)).fetchone()
    return None if row is None else _commit(row)


def refs(db: sqlite3.Connection, repo: Repo) -> list[Ref]:
    """Return all branches and tags by name."""
    query = "SELECT kind, name, commits.id FROM refs JOIN commits ON target = number WHERE refs.repo = ?"
    return [Ref(*row) for row in db.execute(f"{query} ORDER BY kind, name", (repo.number,))]


def add_ref(db: sqlite3.Connection, repo: Repo, kind: str, name: str, target: Commit) -> None:
    """Create a branch or tag.

    Raises RefusedError with status 409 if a branch or tag has this name, 400 if the name is invalid, and 413 if there
    are too many.
    """
    query = "SELECT kind FROM refs WHERE repo = ? AND kind IN ('heads', 'tags') AND name = ?"
    taken = db.execute(query, (repo.number, check_ref(name))).fetchone()
    if taken:  # a name of both kinds would be ambiguous
        raise RefusedError(409, f"{repo.id} already has a {_WORD[taken[0]]} {name!r}.")
    if db.execute("SELECT count(*) FROM refs WHERE repo = ?", (repo.number,)).fetchone()[0] >= MAX_REFS:
        raise too_large(f"A repository can have {MAX_REFS:,} branches and tags.")
    db.execute("INSERT INTO refs VALUES (?, ?, ?, ?)", (repo.number, kind, name, target.number))


def delete_ref(db: sqlite3.Connection, repo: Repo, kind: str, name: str) -> None:
    """Delete a branch or tag; its commits stay. Raises RefusedError with status 404, or 400 for ``main``."""
    if (kind, name) == ("heads", MAIN):
        raise bad_request(f"The branch {MAIN} cannot be deleted.")
    gone = db.execute("DELETE FROM refs WHERE repo = ? AND kind = ? AND name = ?", (repo.number, kind, name))
    if not gone.rowcount:
        raise revision_not_found(repo.id, name)


_WORD = {"heads": "branch", "tags": "tag"}


def history(db: sqlite3.Connection, newest: Commit, count: int) -> Iterator[Commit]:
    """Yield a commit and the ones before it, newest first, at most ``count``."""
    query = """WITH RECURSIVE line (number, age) AS (
        SELECT ?, 0 UNION ALL SELECT parent, age + 1 FROM commits JOIN line USING (number) WHERE parent IS NOT NULL
        LIMIT ?) SELECT number FROM line ORDER BY age"""
    for (number,) in db.execute(query, (newest.number, count)).fetchall():
        yield numbered(db, number)


def numbered(db: sqlite3.Connection, number: int) -> Commit:
    """Return the commit of a number from the index."""
    return _commit(db.execute(f"SELECT {_COMMIT} FROM commits WHERE number = ?", (number,)).fetchone())
