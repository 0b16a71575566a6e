"""Commits, files and repositories in the form of the Hub's answers."""

import sqlite3
from typing import Any

from lottapack.serve import cards, revisions
from lottapack.serve.blobs import BlobStore
from lottapack.serve.gitids import folder_ids
from lottapack.serve.repos import Repo
from lottapack.serve.revisions import Commit, File

Json = dict[str, Any]

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


def lfs(file: File, key: str) -> Json:
    """SHA-256 and size, where clients look for them: as if git-lfs held the file. ``key``: what holds the SHA-256."""
    sha256, size = file.blob.sha256, file.blob.size
    return {key: sha256, "size": size, "pointerSize": len(_POINTER.format(sha256, size))}


def model(db: sqlite3.Connection, store: BlobStore, repo: Repo, commit: Commit, *, blobs: bool = False) -> Json:
    """A repository at a commit; ``blobs``: with the sizes and hashes of its files."""
    files = revisions.files(db, commit)
    card = cards.card(store, files)
    siblings: list[Json] = [{"rfilename": file.path} for file in files]
    if blobs:
        for file, sibling in zip(files, siblings, strict=True):
            sibling.update(size=file.blob.size, blobId=file.blob.oid, lfs=lfs(file, "sha256"))
    found: Json = {
        "_id": str(repo.number),
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.owner,
        "sha": commit.id,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "createdAt": repo.created,
        "lastModified": commit.date,
        "tags": cards.tags(card),
        "siblings": siblings,
        "usedStorage": sum({file.blob.sha256: file.blob.size for file in files}.values()),
        "cardData": card,
    }
    found.update({key: card[key] for key in ("library_name", "pipeline_tag") if isinstance(card.get(key), str)})
    return found


def last_commit(db: sqlite3.Connection, number: int) -> Json:
    """The commit that last changed something."""
    commit = revisions.numbered(db, number)
    return {"id": commit.id, "title": commit.title, "date": commit.date}


def tree(db: sqlite3.Connection, files: list[File], *, expand: bool) -> list[Json]:
    """All files and folders of a commit, by path; ``expand``: with the commits that last changed them."""
    entries = {file.path: _file(file) for file in files}
    changed = {file.path: file.changed for file in files}
    for path, oid in folder_ids({file.path: file.blob.oid for file in files}).items():
        if path:
            entries[path] = {"type": "directory", "oid": oid, "size": 0, "path": path}
            changed[path] = max(file.changed for file in files if file.path.startswith(f"{path}/"))
    if expand:
        for path, entry in entries.items():
            entry["lastCommit"] = last_commit(db, changed[path])
    return [entries[path] for path in sorted(entries)]


def _file(file: File) -> Json:
    return {
        "type": "file",
        "oid": file.blob.oid,
        "size": file.blob.size,
        "lfs": lfs(file, "oid"),
        "path": file.path,
    }


def commit(found: Commit) -> Json:
    """A commit in a history."""
    return {
        "id": found.id,
        "title": found.title,
        "message": found.message,
        "authors": [{"user": found.author}],
        "date": found.date,
    }
