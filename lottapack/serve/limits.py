"""How much the registry takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest a client may send: bytes a file, bytes and files a commit, bytes of any other request's body."""

    file_bytes: int = 50 * 10**9
    commit_bytes: int = 100 * 10**9
    commit_files: int = 10_000
    body_bytes: int = 4 * 2**20


LINE_BYTES = 64 * 2**10
"""The longest line of a commit's body, contents of files not counted."""

PATH_BYTES, SEGMENT_BYTES = 1024, 255
"""The longest path of a file, and the longest name in it, in UTF-8."""

PAGE = 1000
"""Entries of a listing's page."""
