"""A registry's folder, opened: its index, its blobs, and the rules it is served by."""

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
    """Who may do what.

    ``anonymous_read``: reading public repositories needs no token. ``open_while_no_tokens``: as long as there are no
    tokens at all, every program on this machine may read and write. ``hosts``: names of this host beside those of the
    loopback; if there are any, requests by other names are refused, with tokens too.
    """

    anonymous_read: bool = True
    open_while_no_tokens: bool = False
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Registry:
    """All that a request needs."""

    database: Database
    store: BlobStore
    committer: Committer
    limits: Limits
    rules: Rules


@contextmanager
def opened(root: Path, *, limits: Limits, rules: Rules) -> Iterator[Registry]:
    """Open the registry in a folder, make one if there is none, and tidy up after a server that was killed.

    One server at a time: raises OutputError if another one has it, or if the folder cannot be used or is a backup.
    """
    if (root / MARK).exists():
        raise OutputError(
            f"{root} is a backup", hint=f"Make a registry of it: lottapack serve restore {root} --root DIR"
        )
    database = Database(root)
    lock = FileLock(root / "serve.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as fault:
        raise OutputError(
            f"another process serves {root}", hint="Stop that one first, or name another folder."
        ) from fault
    except OSError as fault:
        raise OutputError(f"cannot lock {root}: {fault.strerror or fault}", hint="Is it writable?") from fault
    try:
        store = BlobStore(root)
        with database.read() as db:
            known = {row[0] for row in db.execute("SELECT sha256 FROM blobs")}
        store.sweep(known)
        with database.keep():
            yield Registry(database, store, Committer(database, store, limits), limits, rules)
    finally:
        lock.release()
