"""Make commits: each applies all its changes or none.

Commits run one after another. Contents are first moved to their final paths, then the index changes in one transaction.
If that fails, they are removed again; if the server is killed in between, the next start removes them.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lottapack_serve import cards, repos, revisions, trees
from lottapack_serve.blobs import Blob, BlobStore, Incoming
from lottapack_serve.database import Database
from lottapack_serve.gitids import commit_id, folder_ids
from lottapack_serve.limits import Limits
from lottapack_serve.names import check_path
from lottapack_serve.refusals import RefusedError, bad_request, revision_not_found, too_large
from lottapack_serve.repos import Repo
from lottapack_serve.revisions import MAIN, Commit


@dataclass(frozen=True, slots=True)
class Add:
    """A file with new content."""

    path: str
    content: Incoming


@dataclass(frozen=True, slots=True)
class Link:
    """A file whose content, by SHA-256, the repository already has."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A file to delete, or a folder with everything in it."""

    path: str
    folder: bool


Operation = Add | Link | Delete
Allowed = Callable[[sqlite3.Connection], tuple[str, Repo]]
"""Returns the author and the repository, or refuses; called inside the transaction."""


@dataclass(slots=True)
class Change:
    """The changes of a commit. ``parent``: the commit that the branch must be at, or None for any."""

    title: str = ""
    message: str = ""
    parent: str | None = None
    operations: list[Operation] = field(default_factory=list)


class Committer:
    """Applies changes to a registry, one at a time."""

    def __init__(self, database: Database, store: BlobStore, limits: Limits) -> None:
        self._database = database
        self._store = store
        self._limits = limits
        self._one = threading.Lock()

    def create(self, owner: str, name: str, allowed: Callable[[sqlite3.Connection], str], *, private: bool) -> Repo:
        """Create a repository with an empty first commit on ``main``, like the Hub's."""
        with self._one, self._database.write() as db:
            author = allowed(db)
            repo = repos.create(db, owner, name, private=private)
            first = _record(db, repo, None, author, Change("initial commit"), {})
            revisions.add_ref(db, repo, "heads", MAIN, first)
            trees.publish(db, repo.number, first.number)
            return repo

    def delete(self, allowed: Callable[[sqlite3.Connection], Repo]) -> None:
        """Delete a repository, and the contents that no other repository uses."""
        with self._one:
            with self._database.write() as db:
                lonely = repos.delete(db, allowed(db))
            self._store.remove(lonely)

    def prepare(self, change: Change) -> None:
        """Flush a change's contents to disk. This takes long, and nobody else has to wait for it."""
        self._store.flush(_contents(change))

    def commit(self, allowed: Allowed, branch: str, change: Change) -> tuple[Repo, Commit]:
        """Commit a prepared change on a branch.

        Raises RefusedError with status 412 if the branch is elsewhere, and 401, 403, 404, 400, 413 or 507. ``allowed``
        is called in the transaction, because an upload may take longer than a right lasts.
        """
        with self._one:
            new: list[str] = []
            try:
                with self._database.write() as db:
                    author, repo = allowed(db)
                    head = check_head(db, repo, branch, change.parent)
                    files = _apply(db, repo, head, change.operations)
                    self._check(files)
                    new = self._store.keep(_contents(change))
                    made = _record(db, repo, head, author, change, files)
                    self._keep_card(db, files)
                    name = branch.removeprefix("refs/heads/")
                    db.execute(
                        "UPDATE refs SET target = ? WHERE repo = ? AND kind = 'heads' AND name = ?",
                        (made.number, repo.number, name),
                    )
                    if name == MAIN:
                        trees.publish(db, repo.number, made.number)
            except BaseException:
                self._store.remove(new)
                raise
        return repo, made

    def _check(self, files: Iterable[str]) -> None:
        """Check the limits of the resulting commit, and that no path is both a file and a folder."""
        paths = set(files)
        if len(paths) > self._limits.commit_files:
            raise too_large(f"A commit can have {self._limits.commit_files:,} files, not {len(paths):,}.")
        folders: set[str] = set()
        for path in paths:
            folder = path
            while (folder := folder.rpartition("/")[0]) and folder not in folders:
                if folder in paths:
                    raise bad_request(f"{folder!r} cannot be both a file and the folder of {path!r}.")
                folders.add(folder)
                if len(folders) > self._limits.commit_folders:
                    raise too_large(f"A commit can have {self._limits.commit_folders:,} folders.")

    def _keep_card(self, db: sqlite3.Connection, files: Mapping[str, "_Held"]) -> None:
        """Parse the card, once for each content."""
        if held := files.get(cards.README):
            cards.keep(db, held.blob.sha256, self._store.path(held.blob.sha256))


def _contents(change: Change) -> list[Incoming]:
    """Return the arrived contents of a change, each content once."""
    arrived = (operation.content for operation in change.operations if isinstance(operation, Add))
    return list({content.blob.sha256: content for content in arrived}.values())


def check_head(db: sqlite3.Connection, repo: Repo, branch: str, parent: str | None) -> Commit:
    """Return a branch's newest commit. Raises RefusedError: 404 without the branch, 412 if it is not at ``parent``."""
    head = revisions.branch(db, repo, branch)
    if head is None:
        raise revision_not_found(repo.id, branch)
    if parent is not None and parent != head.id:
        raise RefusedError(
            412,
            f"{repo.id}, branch {branch}, is at {head.id}, not at {parent} as expected: another commit came first. "
            "Fetch that commit, review it, and commit again.",
        )
    return head


@dataclass(frozen=True, slots=True)
class _Held:
    """A file in the new commit. ``changed``: the commit that changed it last, None for the new commit."""

    blob: Blob
    changed: int | None


def _apply(db: sqlite3.Connection, repo: Repo, head: Commit, operations: Iterable[Operation]) -> dict[str, _Held]:
    files = {
        file.path: _Held(Blob(str(file.sha256), file.size, file.oid), file.changed)
        for file in trees.files(db, head.number)
    }
    added: set[str] = set()
    for operation in operations:
        if isinstance(operation, Delete):
            _delete(files, operation)
            continue
        path = check_path(operation.path)
        if path in added:
            raise bad_request(f"The commit has more than one content for {path!r}.")
        added.add(path)
        blob = operation.content.blob if isinstance(operation, Add) else _known(db, repo, operation.sha256)
        same = path in files and files[path].blob == blob
        files[path] = files[path] if same else _Held(blob, None)
    return files


def _delete(files: dict[str, _Held], operation: Delete) -> None:
    gone = [operation.path] if operation.path in files and not operation.folder else []
    if not gone:  # as on the Hub, a path may name a folder without saying so
        gone = [path for path in files if path.startswith(f"{operation.path}/")]
    if not gone:
        kind = "folder" if operation.folder else "file"
        raise RefusedError(404, f"A {kind} with this name doesn't exist: {operation.path!r}", code="EntryNotFound")
    for path in gone:
        del files[path]


def _known(db: sqlite3.Connection, repo: Repo, sha256: str) -> Blob:
    # Only contents of this repository count: knowing a hash must not give access to a content.
    query = """SELECT sha256, size, oid FROM blobs WHERE sha256 = ? AND EXISTS (
        SELECT 1 FROM entries JOIN commits ON revision = number WHERE entries.sha256 = blobs.sha256 AND repo = ?)"""
    row = db.execute(query, (sha256, repo.number)).fetchone()
    if row is None:
        raise bad_request(
            f"{repo.id} does not have a content with SHA-256 {sha256}. This registry takes files in the commit itself, "
            "not by LFS or Xet: it requests the upload mode 'regular'."
        )
    return Blob(*row)


def _record(
    db: sqlite3.Connection, repo: Repo, head: Commit | None, author: str, change: Change, files: dict[str, _Held]
) -> Commit:
    """Write a commit into the index."""
    now = datetime.now(UTC)
    date = repos.iso(now)
    folders = folder_ids({path: held.blob.oid for path, held in files.items()})
    text = f"{change.title}\n\n{change.message}".rstrip()
    oid = commit_id(folders[""], head.id if head else None, author, int(now.timestamp()), text)
    known = db.execute("SELECT number FROM commits WHERE repo = ? AND id = ?", (repo.number, oid)).fetchone()
    if known:  # the same change was committed on another branch in the same second
        return revisions.numbered(db, known[0])
    made = db.execute(
        "INSERT INTO commits (repo, id, parent, author, date, title, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (repo.number, oid, head.number if head else None, author, date, change.title, change.message),
    )
    number = made.lastrowid or 0
    blobs = {(held.blob.sha256, held.blob.size, held.blob.oid) for held in files.values() if held.changed is None}
    db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", blobs)
    placed = {
        path: trees.Placed(held.blob.sha256, held.blob.oid, number if held.changed is None else held.changed)
        for path, held in files.items()
    }
    trees.write(db, number, head.number if head else None, placed, folders)
    return Commit(number, oid, author, date, change.title, change.message)
