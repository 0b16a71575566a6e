"""How much the registry takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest a client may send: bytes a file; bytes, files and folders a commit; bytes of any other body."""

    file_bytes: int = 50 * 10**9
    commit_bytes: int = 100 * 10**9
    commit_files: int = 10_000
    commit_folders: int = 10_000
    body_bytes: int = 2 * 2**20


LINE_BYTES = 64 * 2**10
"""The longest line of a commit's body, contents of files not counted."""

TITLE = 1000
"""The longest summary of a commit, in characters: listings repeat it for each file."""

PATH_BYTES, SEGMENT_BYTES = 1024, 255
"""The longest path of a file, and the longest name in it, in UTF-8."""

PATH_NAMES = 32
"""The names in a path at most: 31 folders and the file."""

MAX_REFS = 10_000
"""Branches and tags of a repository, which are listed in one answer."""

PAGE, PAGE_BYTES = 1000, 4 * 2**20
"""Entries of a listing's page, and its bytes of JSON, after which it ends early."""

PATHS = 1000
"""Paths that can be asked for at once."""

FORM_FIELDS = 2 * PATHS
"""Fields of a form, in any body."""

SMALL_BODY = 64 * 2**10
"""The longest body where nothing long can be meant: names, branches, settings."""
