"""The registry's limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest requests: bytes of a file; bytes, files and folders of a commit; bytes of any other body."""

    file_bytes: int = 50 * 10**9
    commit_bytes: int = 100 * 10**9
    commit_files: int = 10_000
    commit_folders: int = 10_000
    body_bytes: int = 2 * 2**20


LINE_BYTES = 64 * 2**10
"""The longest line of a commit's body, without the contents of files."""

TITLE = 1000
"""The most characters of a commit's summary, because listings repeat it for each file."""

PATH_BYTES, SEGMENT_BYTES = 1024, 255
"""The longest path of a file, and the longest name in it, in UTF-8 bytes."""

PATH_NAMES = 32
"""The most names in a path: 31 folders and the file."""

MAX_REFS = 10_000
"""The most branches and tags of a repository, because one answer lists all of them."""

PAGE, PAGE_BYTES = 1000, 4 * 2**20
"""The entries of a listing's page, and its bytes of JSON after which it ends early."""

PATHS = 1000
"""The most paths in one request."""

FORM_FIELDS = 2 * PATHS
"""The most fields of a form."""

SMALL_BODY = 64 * 2**10
"""The longest body of requests with short contents: names, branches, settings."""
