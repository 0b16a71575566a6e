"""Check names of repositories, of branches and tags, and of files inside a repository."""

import re
import unicodedata

from lottapack_serve.limits import PATH_BYTES, PATH_NAMES, SEGMENT_BYTES
from lottapack_serve.refusals import bad_request

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_REF = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+/-]{0,198}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RESERVED = frozenset({"api", "buckets", "collections", "datasets", "kernels", "models", "papers", "spaces"})
"""Owners whose names have another meaning in addresses."""
_FOLDERS = frozenset({".git", ".cache"})
"""Folders of git and of the clients; clients refuse them too."""


def check_repo(owner: str, name: str) -> str:
    """Return the name ``owner/name`` if a repository may have it. Raises RefusedError with status 400."""
    for part in (owner, name):
        if not _NAME.fullmatch(part) or "--" in part or ".." in part or part.endswith(".git"):
            raise bad_request(
                f"{part!r} cannot be the name of a repository or its owner: use at most 96 letters, digits, '-', "
                f"'_' and "
                "'.', without '-' or '.' at either end, without '--' or '..', and without '.git' at the end."
            )
    if owner.lower() in _RESERVED:
        raise bad_request(f"{owner!r} has another meaning in addresses, so it cannot own repositories.")
    return f"{owner}/{name}"


def check_ref(name: str) -> str:
    """Return the name if a branch or tag may have it. Raises RefusedError with status 400."""
    parts = name.split("/")
    odd = any(not part or part.startswith(".") or part.endswith((".", ".lock")) or ".." in part for part in parts)
    if not _REF.fullmatch(name) or odd or parts[0] == "refs" or is_commit(name):
        raise bad_request(
            f"{name!r} cannot be the name of a branch or tag: use at most 199 letters, digits, '-', '_', '.', '+' and "
            "'/', as git allows them, and nothing that looks like a commit."
        )
    return name


def is_commit(text: str) -> bool:
    """Return whether a text has the form of a commit's id, 40 hex digits."""
    return _COMMIT.fullmatch(text) is not None


def check_path(path: str) -> str:
    """Return the path if a file may have it on every client's disk. Raises RefusedError with status 400."""
    fault = _fault(path)
    if fault:
        raise bad_request(f"{path[:200]!r} cannot be the path of a file: {fault}.")
    return path


def _fault(path: str) -> str:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not path or len(encoded) > PATH_BYTES:
        return f"it must have 1 to {PATH_BYTES} bytes"
    if path.count("/") >= PATH_NAMES:
        return f"it has more than {PATH_NAMES} names"
    if "\\" in path or re.match(r"[A-Za-z]:", path):
        return "it would leave the folder on Windows"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return "it contains control characters"
    if unicodedata.normalize("NFC", path) != path:
        return "it is not in Unicode's composed form, NFC"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "it is not a plain path inside the repository"
        if part.lower() in _FOLDERS:
            return f"folders named {part!r} are reserved for git and the clients"
        if len(part.encode("utf-8")) > SEGMENT_BYTES:
            return f"a name in it is longer than {SEGMENT_BYTES} bytes"
    return ""
