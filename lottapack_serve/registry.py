"""An open registry folder: its index, its blobs, and its rules."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lottapack.errors import OutputError
from lottapack_serve.backup import MARK
from lottapack_serve.blobs import BlobStore
from lottapack_serve.commits import Committer
from lottapack_serve.database import Database
from lottapack_serve.limits import Limits


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of access.

    ``anonymous_read``: whether reading public repositories works without a token. ``open_while_no_tokens``: whether
    every program on this machine may read and write without tokens. ``hosts``: names of this host besides
    the loopback's; if there are any, requests to other names are refused, even with tokens.
    """

    anonymous_read: bool = True
    open_while_no_tokens: bool = False
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Registry:
    """Everything that a request needs."""

    database: Database
    store: BlobStore
    committer: Committer
    limits: Limits
    rules: Rules


@contextmanager
def opened(root: Path, *, limits: Limits, rules: Rules) -> Iterator[Registry]:
    """Open the registry in a folder, or create it, and tidy up after a server that was killed.

    Only one server can have it: raises OutputError if another one does, or if the folder cannot be used or is a backup.
    """
    if (root / MARK).exists():
        raise OutputError(
            f"{root} is a backup, not a registry", hint=f"Restore it first: lottapack serve restore {root} --root DIR"
        )
    database = Database(root)
    lock = FileLock(root / "serve.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as fault:
        raise OutputError(
            f"another process already serves {root}", hint="Stop it first, or pass another folder."
        ) from fault
    except OSError as fault:
        raise OutputError(
            f"cannot lock {root}: {fault.strerror or fault}", hint="Check that the folder is writable."
        ) from fault
    try:
        store = BlobStore(root)
        with database.read() as db:
            known = {row[0] for row in db.execute("SELECT sha256 FROM blobs")}
        store.sweep(known)
        with database.keep():
            yield Registry(database, store, Committer(database, store, limits), limits, rules)
    finally:
        lock.release()
