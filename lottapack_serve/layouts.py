"""The tables of the index, and the migration from older layouts.

Layout 2 stores what listings need: the folders of each commit with their ids, the front matter of each card, and the
tags of each repository. So the cost of a request depends on its answer only, and no content is parsed while others
read.
"""

import sqlite3
from pathlib import Path

VERSION = 2
"""The version of the layout, in SQLite's ``user_version``."""

_KEPT = """
CREATE TABLE moves (
    owner TEXT NOT NULL, name TEXT NOT NULL, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
    PRIMARY KEY (owner, name)) WITHOUT ROWID;
CREATE TABLE blobs (
    sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, oid TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commits (
    number INTEGER PRIMARY KEY, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, id TEXT NOT NULL,
    parent INTEGER REFERENCES commits, author TEXT NOT NULL, date TEXT NOT NULL, title TEXT NOT NULL,
    message TEXT NOT NULL, UNIQUE (repo, id));
CREATE INDEX commits_by_parent ON commits (parent);
CREATE TABLE refs (
    repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, kind TEXT NOT NULL CHECK (kind IN ('heads', 'tags')),
    name TEXT NOT NULL, target INTEGER NOT NULL REFERENCES commits, PRIMARY KEY (repo, kind, name)) WITHOUT ROWID;
CREATE INDEX refs_by_target ON refs (target);
CREATE TABLE tokens (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, rights TEXT NOT NULL CHECK (rights IN ('read', 'write')),
    created TEXT NOT NULL) WITHOUT ROWID;
"""
"""The tables that layout 1 has too."""

_REPOS = """
CREATE TABLE repos (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, name TEXT NOT NULL, private INTEGER NOT NULL,
    created TEXT NOT NULL, updated TEXT NOT NULL DEFAULT '', UNIQUE (owner, name));
"""
"""``id``: never given again. ``updated``: the date of the newest commit on ``main``."""

_NEW = """
CREATE INDEX repos_in_public ON repos (private, owner, name);
CREATE INDEX repos_by_update ON repos (updated);
CREATE INDEX repos_by_creation ON repos (created);
CREATE INDEX repos_in_public_by_update ON repos (private, updated);
CREATE INDEX repos_in_public_by_creation ON repos (private, created);
CREATE TABLE entries (
    revision INTEGER NOT NULL REFERENCES commits ON DELETE CASCADE, folder TEXT NOT NULL, name TEXT NOT NULL,
    sha256 TEXT REFERENCES blobs, tree TEXT, changed INTEGER NOT NULL,
    PRIMARY KEY (revision, folder, name)) WITHOUT ROWID;
CREATE INDEX entries_by_blob ON entries (sha256) WHERE sha256 IS NOT NULL;
CREATE TABLE cards (
    sha256 TEXT PRIMARY KEY REFERENCES blobs ON DELETE CASCADE, fields TEXT NOT NULL, brief TEXT NOT NULL);
CREATE TABLE topics (
    tag TEXT NOT NULL, repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE,
    PRIMARY KEY (tag, repo)) WITHOUT ROWID;
CREATE INDEX topics_by_repo ON topics (repo);
"""
"""``entries``: a file has a ``sha256``, a folder a ``tree``, its id; the root ``""`` is the folder of its entries.
``cards``: the front matter of each README.md as JSON, and in ``brief`` what every listing shows of it. ``topics``:
the tags of the newest commit on ``main``."""


def prepare(db: sqlite3.Connection, root: Path) -> bool:
    """Create the tables, or migrate them, inside a transaction; return whether this lottapack supports the layout."""
    layout = version(db)
    if layout == 0:
        _run(db, _REPOS + _KEPT + _NEW)
    elif layout == 1:
        _run(db, "ALTER TABLE repos ADD COLUMN updated TEXT NOT NULL DEFAULT '';\n" + _NEW)
        _fill(db, root)
        _run(db, "DROP TABLE files;\n")
    if layout in (0, 1):
        db.execute(f"PRAGMA user_version = {VERSION}")
    return layout <= VERSION


def version(db: sqlite3.Connection) -> int:
    """Return the layout of an index, 0 for an empty one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _run(db: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        db.execute(statement)


def _fill(db: sqlite3.Connection, root: Path) -> None:
    """Compute once what layout 1 computed for each request."""
    from lottapack_serve import blobs, cards, gitids, trees  # only a migration needs these

    for number, parent in db.execute("SELECT number, parent FROM commits ORDER BY number").fetchall():
        query = "SELECT path, sha256, oid, changed FROM files JOIN blobs USING (sha256) WHERE revision = ?"
        files = {
            path: trees.Placed(sha256, oid, changed) for path, sha256, oid, changed in db.execute(query, (number,))
        }
        folders = gitids.folder_ids({path: file.oid for path, file in files.items()})
        trees.write(db, number, parent, files, folders)
    for (sha256,) in db.execute("SELECT DISTINCT sha256 FROM files WHERE path = ?", (cards.README,)).fetchall():
        cards.keep(db, sha256, blobs.blob_path(root, sha256))
    heads = "SELECT repo, target FROM refs WHERE kind = 'heads' AND name = 'main'"
    for repo, target in db.execute(heads).fetchall():
        trees.publish(db, repo, target)
