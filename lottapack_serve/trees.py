"""The files and folders of each commit in the index: written once, read by page."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lottapack.format.container import PACK_END
from lottapack_serve import cards


@dataclass(frozen=True, slots=True)
class Placed:
    """A file in a commit: SHA-256 and git id of its content. ``changed``: the commit that changed it last."""

    sha256: str
    oid: str
    changed: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a commit.

    ``oid``: git's id. ``sha256``: that of a file's content; None for a folder, whose ``size`` is 0. ``changed``: the
    number of the commit that last changed it or anything in it.
    """

    path: str
    sha256: str | None
    size: int
    oid: str
    changed: int


def write(
    db: sqlite3.Connection,
    revision: int,
    parent: int | None,
    files: Mapping[str, Placed],
    folders: Mapping[str, str],
) -> None:
    """Store the files and folders of a commit. A folder with a new id has changed."""
    query = "SELECT folder, name, tree, changed FROM entries WHERE revision = ? AND sha256 IS NULL"
    before = {_join(folder, name): (tree, changed) for folder, name, tree, changed in db.execute(query, (parent,))}
    rows: list[tuple[object, ...]] = [
        (revision, *split(path), file.sha256, None, file.changed) for path, file in files.items()
    ]
    for path, tree in folders.items():
        if path:
            tree_before, changed = before.get(path, ("", 0))
            rows.append((revision, *split(path), None, tree, changed if tree == tree_before else revision))
    db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)


def publish(db: sqlite3.Connection, repo: int, revision: int) -> None:
    """Store the fields of a repository's listing: date and tags of the newest commit on ``main``."""
    db.execute("UPDATE repos SET updated = (SELECT date FROM commits WHERE number = ?) WHERE id = ?", (revision, repo))
    db.execute("DELETE FROM topics WHERE repo = ?", (repo,))
    db.executemany(
        "INSERT INTO topics VALUES (?, ?)",
        [(tag, repo) for tag in cards.kept(db, readme(db, revision), whole=False).get("tags", [])],
    )


def readme(db: sqlite3.Connection, revision: int) -> str | None:
    """Return the SHA-256 of a commit's card, or None."""
    entry = at(db, revision, cards.README)
    return entry.sha256 if entry else None


_ENTRY = """SELECT folder, name, sha256, coalesce(size, 0), coalesce(oid, tree), changed
    FROM entries LEFT JOIN blobs USING (sha256)"""


def at(db: sqlite3.Connection, revision: int, path: str) -> Entry | None:
    """Return the file or folder at a path, or None."""
    query = f"{_ENTRY} WHERE revision = ? AND folder = ? AND name = ?"
    return next(_entries(db.execute(query, (revision, *split(path)))), None)


def files(db: sqlite3.Connection, revision: int) -> list[Entry]:
    """Return all files of a commit by path."""
    entries = _entries(db.execute(f"{_ENTRY} WHERE revision = ? AND sha256 IS NOT NULL", (revision,)))
    return sorted(entries, key=lambda entry: entry.path)


def inside(db: sqlite3.Connection, revision: int, folder: str, after: str, count: int) -> list[Entry]:
    """Return the first entries directly in a folder, by name, after the path ``after``."""
    name = split(after)[1] if after and split(after)[0] == folder else ""
    query = f"{_ENTRY} WHERE revision = ? AND folder = ? AND name > ? ORDER BY name LIMIT ?"
    return list(_entries(db.execute(query, (revision, folder, name, count))))


def packs(db: sqlite3.Connection, revision: int, count: int) -> list[Entry]:
    """Return the first packs in the root of a commit, by name."""
    query = f"{_ENTRY} WHERE revision = ? AND folder = '' AND sha256 IS NOT NULL AND name GLOB ? ORDER BY name LIMIT ?"
    return list(_entries(db.execute(query, (revision, f"*{PACK_END}", count))))


def below(db: sqlite3.Connection, revision: int, folder: str, after: str, count: int) -> list[Entry]:
    """Return the first entries in a folder and all folders below, by folder and name, after the path ``after``."""
    position = split(after) if after else (folder, "")
    entries = inside(db, revision, folder, after, count) if position[0] == folder else []
    # Names of folders below "a" begin with "a/", and "0" follows "/". Names cannot begin with a control character.
    first, last, end = (f"{folder}/", "AND folder < ?", [f"{folder}0"]) if folder else ("\x01", "", [])
    query = f"{_ENTRY} WHERE revision = ? AND (folder, name) > (?, ?) {last} ORDER BY folder, name LIMIT ?"
    begin = max(position, (first, ""))
    return entries + list(_entries(db.execute(query, (revision, *begin, *end, count - len(entries)))))


def split(path: str) -> tuple[str, str]:
    """Return the folder of a path, ``""`` for the root, and the name in it."""
    folder, _, name = path.rpartition("/")
    return folder, name


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _entries(rows: Iterable[Sequence[Any]]) -> Iterator[Entry]:
    for folder, name, sha256, size, oid, changed in rows:
        yield Entry(_join(folder, name), sha256, size, oid, changed)
