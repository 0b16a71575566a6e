"""Commits, files and repositories in the form of the Hub's answers."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from lottapack_serve import cards, revisions, trees
from lottapack_serve.repos import Listed, Repo
from lottapack_serve.revisions import Commit
from lottapack_serve.trees import Entry

Json = dict[str, Any]

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


def lfs(file: Entry, key: str) -> Json:
    """Return SHA-256 and size where clients expect them, as if git-lfs held the file.

    ``key``: the key of the SHA-256.
    """
    return {key: file.sha256, "size": file.size, "pointerSize": len(_POINTER.format(file.sha256, file.size))}


def model(db: sqlite3.Connection, repo: Repo, commit: Commit) -> Json:
    """Return a repository at a commit, with the sizes and hashes of its files."""
    files = trees.files(db, commit.number)
    card = cards.kept(db, trees.readme(db, commit.number), whole=True)
    description = _model(repo, commit.id, commit.date, cards.brief(card))
    description["cardData"] = card
    description["siblings"] = [
        {"rfilename": file.path, "size": file.size, "blobId": file.oid, "lfs": lfs(file, "sha256")} for file in files
    ]
    description["usedStorage"] = sum({file.sha256: file.size for file in files}.values())
    return description


def listed(db: sqlite3.Connection, one: Listed, *, card: bool, siblings: bool) -> Json:
    """Return a repository in a listing, with the requested fields."""
    description = _model(one.repo, one.id, one.date, cards.kept(db, one.readme, whole=False))
    if card:
        description["cardData"] = cards.kept(db, one.readme, whole=True)
    if siblings:
        description["siblings"] = [{"rfilename": file.path} for file in trees.files(db, one.commit)]
    return description


def _model(repo: Repo, commit: str, date: str, brief: cards.Fields) -> Json:
    return {
        "_id": str(repo.number),
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.owner,
        "sha": commit,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "createdAt": repo.created,
        "lastModified": date,
        "tags": [],
        **brief,
    }


def entries(db: sqlite3.Connection, found: Iterable[Entry], *, expand: bool) -> Iterator[Json]:
    """Yield files and folders; ``expand``: with the commits that changed them last."""
    commits: dict[int, Json] = {}
    for entry in found:
        item: Json = {"type": "file" if entry.sha256 else "directory", "oid": entry.oid, "size": entry.size}
        if entry.sha256:
            item["lfs"] = lfs(entry, "oid")
        item["path"] = entry.path
        if expand:
            if entry.changed not in commits:
                last = revisions.numbered(db, entry.changed)
                commits[entry.changed] = {"id": last.id, "title": last.title, "date": last.date}
            item["lastCommit"] = commits[entry.changed]
        yield item


def commit(found: Commit) -> Json:
    """Return a commit in a history."""
    return {
        "id": found.id,
        "title": found.title,
        "message": found.message,
        "authors": [{"user": found.author}],
        "date": found.date,
    }
