"""The index: one SQLite file with all repositories, commits, files, branches, tags and tokens.

Each commit lists all its files and folders, so that one query reads any revision and nothing is ever replayed
(``layouts.py`` defines the tables).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from lottapack.errors import OutputError, UnsupportedError
from lottapack.files.paths import path_of
from lottapack_serve import layouts
from lottapack_serve.refusals import busy, disk_full

FILE = "registry.sqlite3"


class Database:
    """The index of a registry's folder.

    Every use has its own connection, so that threads share nothing; keep() makes that fast.
    """

    def __init__(self, root: str | PathLike[str]) -> None:
        """Open the index in ``root``, or create it. Raises OutputError, UnsupportedError, InvalidReferenceError."""
        root = path_of(root, "root")
        self.path = root / FILE
        self._idle: list[sqlite3.Connection] | None = None
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._prepare()
        except (OSError, sqlite3.Error) as fault:
            raise OutputError(
                f"cannot open the registry in {root}: {getattr(fault, 'strerror', None) or fault}",
                hint="Pass a folder that can be written, and that is empty or contains a registry.",
            ) from fault

    def _prepare(self) -> None:
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            if not layouts.prepare(db, self.path.parent):
                raise UnsupportedError(
                    f"{self.path} has layout {layouts.version(db)}, but this lottapack knows {layouts.VERSION}",
                    hint="Serve it with the version of lottapack that created it.",
                )
            db.execute("COMMIT")

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Reuse connections inside this context.

        One stays open: SQLite's log then remains between uses, which is necessary on a full disk.
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
            # Their number never exceeds that of the threads at work.
            if whole and self._idle is not None:
                self._idle.append(db)
            else:
                db.close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        # Wait for the disk at each commit: what a client was told is stored must stay.
        db.execute("PRAGMA synchronous = FULL")
        return db

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a snapshot: all queries in it see the same state."""
        with self._connection() as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Apply one change: all of it when the block ends, or nothing if it raises. Other changes wait.

        Raises RefusedError with status 507 if the disk is full, and 503 if other changes take too long.
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


def existing(root: str | PathLike[str]) -> Database:
    """Return the index of an existing registry. Raises OutputError if ``root`` does not contain one."""
    if not (path_of(root, "root") / FILE).is_file():
        raise OutputError(f"{root} does not contain a registry", hint="Pass the folder that is served, with --root.")
    return Database(root)
