"""Compute git's ids of files, folders and commits.

Clients compare a file's id with their own to see what already exists, so it must be git's. With git's rules for folders
and commits too, a commit's id identifies its whole content and history.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import BinaryIO

_PIECE = 2**20


def blob_id(file: BinaryIO, size: int) -> str:
    """Return the id of a file's content, read from the position of ``file``; ``size``: its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _object_id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def folder_ids(files: Mapping[str, str]) -> dict[str, str]:
    """Return the ids of all folders by path, the root's under ``""``; ``files``: the id of each file by path."""
    inside: dict[str, list[tuple[str, bool, str]]] = {"": []}
    for path, oid in files.items():
        folder, _, name = path.rpartition("/")
        inside.setdefault(folder, []).append((name, False, oid))
        while folder:
            folder = folder.rpartition("/")[0]
            inside.setdefault(folder, [])
    ids: dict[str, str] = {}
    # The deepest first, because a folder's id depends on those inside it.
    for folder in sorted(inside, key=lambda path: (path.count("/"), path != ""), reverse=True):
        ids[folder] = _object_id("tree", _tree(inside[folder]))
        if folder:
            parent, _, name = folder.rpartition("/")
            inside[parent].append((name, True, ids[folder]))
    return ids


def _tree(entries: Iterable[tuple[str, bool, str]]) -> bytes:
    """Return git's bytes of a folder. Git sorts by bytes, and a folder as if its name ended in a slash."""
    keyed = sorted((name.encode() + (b"/" if is_folder else b""), is_folder, oid) for name, is_folder, oid in entries)
    return b"".join(
        (b"40000 " if is_folder else b"100644 ") + key.removesuffix(b"/") + b"\0" + bytes.fromhex(oid)
        for key, is_folder, oid in keyed
    )


def commit_id(tree: str, parent: str | None, author: str, seconds: int, message: str) -> str:
    """Return the id of a commit at a time in seconds since 1970, UTC."""
    who = f"{author} <{author}@localhost> {seconds} +0000"
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else []), f"author {who}", f"committer {who}"]
    return _object_id("commit", ("\n".join(lines) + f"\n\n{message}\n").encode())
