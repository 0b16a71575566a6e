"""The index: one SQLite file that says which repositories, commits, files, branches, tags and tokens there are.

Each commit lists all its files and folders, so that any revision is read with one query and nothing is ever replayed
(``layouts.py`` has the tables).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lottapack.errors import OutputError, UnsupportedError
from lottapack_serve import layouts
from lottapack_serve.refusals import busy, disk_full

FILE = "registry.sqlite3"


class Database:
    """The index of a registry's folder.

    Every use has a connection of its own, so that threads share nothing; keep() makes that quick.
    """

    def __init__(self, root: Path) -> None:
        """Open the index in ``root``, or make one. Raises OutputError, UnsupportedError."""
        self.path = root / FILE
        self._idle: list[sqlite3.Connection] | None = None
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._prepare()
        except (OSError, sqlite3.Error) as fault:
            raise OutputError(
                f"cannot open the registry in {root}: {fault}",
                hint="Name a folder that can be written, and that is empty or holds a registry.",
            ) from fault

    def _prepare(self) -> None:
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            if not layouts.prepare(db, self.path.parent):
                raise UnsupportedError(
                    f"{self.path} has layout {layouts.version(db)}, and this lottapack knows {layouts.VERSION}",
                    hint="Serve it with the version of lottapack that made it.",
                )
            db.execute("COMMIT")

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Use connections again meanwhile.

        One is always held: SQLite's log then stays between uses, which on a full disk it must.
        """
        with self._connection() as db:
            db.execute("SELECT count(*) FROM repos").fetchone()
            self._idle = []
            try:
                yield
            finally:
                idle, self._idle = self._idle, None
                for one in idle:
                    one.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        idle = self._idle
        try:
            db = idle.pop() if idle else self._open()
        except IndexError:  # another thread was faster
            db = self._open()
        whole = False
        try:
            yield db
            if db.in_transaction:
                db.execute("ROLLBACK")
            whole = True
        finally:
            # There are never more of them than there were threads at work.
            if whole and self._idle is not None:
                self._idle.append(db)
            else:
                db.close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        # Waits for the disk at each commit: what a client was told is there stays there.
        db.execute("PRAGMA synchronous = FULL")
        return db

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A snapshot: all queries in it see the same state."""
        with self._connection() as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One change: done as a whole when the block ends, or not at all if it raises. Others wait.

        Raises RefusedError of status 507 where the disk is full, 503 where the others take too long.
        """
        with self._connection() as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except sqlite3.OperationalError as fault:
                if fault.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    raise disk_full() from fault
                if fault.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    raise busy() from fault
                raise


def existing(root: Path) -> Database:
    """The index of a registry that is there. Raises OutputError if there is none in ``root``."""
    if not (root / FILE).is_file():
        raise OutputError(f"there is no registry in {root}", hint="Name the folder that is served, with --root.")
    return Database(root)
