"""One commit: the changes that a client asks for, made as a whole or not at all.

Commits are taken one after another. Contents move to their place first, then the index changes in one transaction; if
that fails they go again, and if the server is killed in between, the next start sweeps them away.
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
    """A file whose content the repository has already, by SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A file that goes, or a folder with all in it."""

    path: str
    folder: bool


Operation = Add | Link | Delete
Allowed = Callable[[sqlite3.Connection], tuple[str, Repo]]
"""Says who commits and where, or refuses; asked inside the transaction."""


@dataclass(slots=True)
class Change:
    """What a client wants to commit. ``parent``: the commit that the branch must be at, if it cares."""

    title: str = ""
    message: str = ""
    parent: str | None = None
    operations: list[Operation] = field(default_factory=list)


class Committer:
    """Takes changes into a registry, one at a time."""

    def __init__(self, database: Database, store: BlobStore, limits: Limits) -> None:
        self._database = database
        self._store = store
        self._limits = limits
        self._one = threading.Lock()

    def create(self, owner: str, name: str, allowed: Callable[[sqlite3.Connection], str], *, private: bool) -> Repo:
        """Make a repository, with an empty first commit on ``main``, as the Hub's have one."""
        with self._one, self._database.write() as db:
            author = allowed(db)
            repo = repos.create(db, owner, name, private=private)
            first = _record(db, repo, None, author, Change("initial commit"), {})
            revisions.add_ref(db, repo, "heads", MAIN, first)
            trees.publish(db, repo.number, first.number)
            return repo

    def delete(self, allowed: Callable[[sqlite3.Connection], Repo]) -> None:
        """Delete a repository and the contents that no other one has."""
        with self._one:
            with self._database.write() as db:
                lonely = repos.delete(db, allowed(db))
            self._store.remove(lonely)

    def prepare(self, change: Change) -> None:
        """Flush a change's contents to disk, which takes long and for which nobody else has to wait."""
        self._store.flush(_contents(change))

    def commit(self, allowed: Allowed, branch: str, change: Change) -> tuple[Repo, Commit]:
        """Make a commit of a prepared change on a branch.

        Raises RefusedError: 412 if the branch is elsewhere, 401, 403, 404, 400, 413, 507.
        ``allowed`` is asked in the transaction that commits, as an upload may take longer than a right lasts.
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
        """Limits of a commit as it will be, and that no path is a file and a folder at once."""
        paths = set(files)
        if len(paths) > self._limits.commit_files:
            raise too_large(f"A commit can hold {self._limits.commit_files:,} files, not {len(paths):,}.")
        folders: set[str] = set()
        for path in paths:
            folder = path
            while (folder := folder.rpartition("/")[0]) and folder not in folders:
                if folder in paths:
                    raise bad_request(f"{folder!r} cannot be a file and the folder of {path!r} at once.")
                folders.add(folder)
                if len(folders) > self._limits.commit_folders:
                    raise too_large(f"A commit can hold {self._limits.commit_folders:,} folders.")

    def _keep_card(self, db: sqlite3.Connection, files: Mapping[str, "_Held"]) -> None:
        """Parse the card, once for each content."""
        if held := files.get(cards.README):
            cards.keep(db, held.blob.sha256, self._store.path(held.blob.sha256))


def _contents(change: Change) -> list[Incoming]:
    """What arrived with a change, each content once."""
    arrived = (operation.content for operation in change.operations if isinstance(operation, Add))
    return list({content.blob.sha256: content for content in arrived}.values())


def check_head(db: sqlite3.Connection, repo: Repo, branch: str, parent: str | None) -> Commit:
    """The newest commit of a branch. Raises RefusedError: 404 if it is gone, 412 if the branch is not at ``parent``."""
    head = revisions.branch(db, repo, branch)
    if head is None:
        raise revision_not_found(repo.id, branch)
    if parent is not None and parent != head.id:
        raise RefusedError(
            412,
            f"{repo.id}, branch {branch}, is at {head.id}, not at {parent} as expected: another commit came first. "
            "Fetch that, look at it, and commit again.",
        )
    return head


@dataclass(frozen=True, slots=True)
class _Held:
    """A file as the new commit holds it. ``changed``: None where this commit changes it."""

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
            raise bad_request(f"The commit has two contents for {path!r}.")
        added.add(path)
        blob = operation.content.blob if isinstance(operation, Add) else _known(db, repo, operation.sha256)
        same = path in files and files[path].blob == blob
        files[path] = files[path] if same else _Held(blob, None)
    return files


def _delete(files: dict[str, _Held], operation: Delete) -> None:
    gone = [operation.path] if operation.path in files and not operation.folder else []
    if not gone:  # a folder may be named without saying so, as on the Hub
        gone = [path for path in files if path.startswith(f"{operation.path}/")]
    if not gone:
        kind = "folder" if operation.folder else "file"
        raise RefusedError(404, f"A {kind} with this name doesn't exist: {operation.path!r}", code="EntryNotFound")
    for path in gone:
        del files[path]


def _known(db: sqlite3.Connection, repo: Repo, sha256: str) -> Blob:
    # Only what this repository holds: whoever knows a hash does not therefore know the content.
    query = """SELECT sha256, size, oid FROM blobs WHERE sha256 = ? AND EXISTS (
        SELECT 1 FROM entries JOIN commits ON revision = number WHERE entries.sha256 = blobs.sha256 AND repo = ?)"""
    row = db.execute(query, (sha256, repo.number)).fetchone()
    if row is None:
        raise bad_request(
            f"{repo.id} holds no content with SHA-256 {sha256}. This registry takes files in the commit itself, "
            "not by LFS or Xet: it asks for upload mode 'regular'."
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
    if known:  # the same change on another branch, in the same second
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
