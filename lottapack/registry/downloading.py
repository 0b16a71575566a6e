"""Fetch a file of known size and hash from any source: resumed, limited, and hashed as it arrives.

Bytes are written to a partial file, which the caller names after the expected hash and locks. What an interrupted fetch
left there, in this process or another, is hashed again, and only the rest is requested.
"""

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lottapack.errors import NetworkError, OutputError, Problem
from lottapack.limits import check_disk, size_text
from lottapack.progress import Progress
from lottapack.registry.integrity import Expected, refuse

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_PARTIAL, _BEYOND = 206, 416
_CUTS = 20
"""How many times a fetch continues after a broken connection."""
WAITS = (0.5, 1.0, 2.0)
"""The seconds to wait before continuing, after attempts that brought nothing."""
_WINDOW, _SLOWEST = 60.0, 200
"""The seconds of a window, and the least bytes a second on average within it."""
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Body:
    """A successful answer with a file's bytes: with status 206 from the requested byte on, else from the start."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


Opener = Callable[[int], AbstractContextManager[Body]]
"""Requests a file from a byte on. Raises NetworkError for temporary failures, also while the body is read."""


def download(opener: Opener, expected: Expected, path: Path, what: str, progress: Progress | None) -> int:
    """Fetch a file with the expected hash into ``path`` on disk. A file that differs is removed and fetched once more.

    Returns how many bytes came over the network. ``progress``: in bytes of the file. ``what``: its name for messages.

    Raises:
        LimitError: the file does not fit on the disk.
        IntegrityError: it differs twice.
        OutputError: it cannot be written; if the disk became full, nothing is kept.
        NetworkError, AccessError, NotFoundError, RegistryError: the registry refused or failed.
    """
    received = 0
    problem = None
    for _ in range(2):
        try:
            with _opened(path) as file:
                check_disk(what, expected.size - os.fstat(file.fileno()).st_size, path.parent)
                fetch = _Fetch(opener, expected, file, what, progress)
                _log.info("downloading %s, %s", what, size_text(expected.size))
                try:
                    problem = fetch.run()
                finally:
                    received += fetch.received
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                path.unlink(missing_ok=True)
            raise _unwritable(path, fault) from fault
        if problem is None:
            return received
        _log.warning("%s: %s; downloading it once more", what, problem.message)
        path.unlink()
    assert problem is not None
    raise refuse(what, problem)


def _opened(path: Path) -> BinaryIO:
    """Open the partial file, or create it. A link in its place is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b")


def _unwritable(path: Path, fault: OSError) -> OutputError:
    if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "Free some space there, or set HF_HOME or LOTTAPACK_CACHE to another disk. Nothing was kept."
    else:
        hint = "Check that the folder is writable, or set HF_HOME or LOTTAPACK_CACHE to one that is."
    return OutputError(f"cannot write {path}: {fault.strerror or fault}", hint=hint)


class _OtherError(Exception):
    """The server offers something else than the announced file."""


class _Fetch:
    """One attempt at a file, over several connections if necessary."""

    def __init__(
        self, opener: Opener, expected: Expected, file: BinaryIO, what: str, progress: Progress | None
    ) -> None:
        self._opener, self._expected, self._file, self._what = opener, expected, file, what
        self._progress = progress
        self._hash, self._done = expected.fresh_hash(), 0
        self.received = 0
        self._patient = True

    def run(self) -> Problem | None:
        """Fetch what is missing; return what is wrong with the whole file, or None once it is on disk."""
        self._keep()
        idle, furthest = 0, self._done
        for cuts in range(_CUTS + 1):
            try:
                self._receive()
                break
            except NetworkError as fault:
                idle = 0 if self._done > furthest else idle + 1
                furthest = max(furthest, self._done)
                if cuts == _CUTS or idle > len(WAITS) or not self._patient:
                    raise
                _log.warning("%s; going on from byte %s", fault.message, f"{self._done:,}")
                if idle:
                    _pause(WAITS[idle - 1])
            except _OtherError as fault:
                return Problem("size", "file", str(fault))
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._expected.problem(self._hash.hexdigest())

    def _keep(self) -> None:
        """Hash what is already there; discard it if it is longer than the file."""
        if os.fstat(self._file.fileno()).st_size > self._expected.size:
            self._restart()
        while piece := self._file.read(_CHUNK):
            self._hash.update(piece)
            self._done += len(piece)

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash, self._done = self._expected.fresh_hash(), 0

    def _receive(self) -> None:
        """Append what is missing, as far as this connection brings it."""
        size = self._expected.size
        if self._done == size:
            return
        with self._opener(self._done) as body:
            self._check(body)
            mark, at_mark = time.monotonic(), self.received
            for chunk in body.chunks:
                if self._done + len(chunk) > size:
                    raise _OtherError(f"has more than the {size:,} bytes that the registry announced")
                self._file.write(chunk)
                self._hash.update(chunk)
                self._done += len(chunk)
                self.received += len(chunk)
                if self._progress:
                    self._progress(self._done, size)
                if time.monotonic() - mark > _WINDOW:
                    if self.received - at_mark < _WINDOW * _SLOWEST:
                        self._patient = False
                        raise NetworkError(f"{self._what}: fewer than {_SLOWEST} bytes a second arrived", hint=_AGAIN)
                    mark, at_mark = time.monotonic(), self.received
        if self._done < size:
            raise NetworkError(f"{self._what}: the answer ended after {self._done:,} of {size:,} bytes", hint=_AGAIN)

    def _check(self, body: Body) -> None:
        """Check that the bytes that follow belong at the end of the file."""
        if body.status == _BEYOND:
            raise _OtherError(
                f"ends before byte {self._done:,}, but the registry announced {self._expected.size:,} bytes"
            )
        if body.status == _PARTIAL:
            match = _RANGE.fullmatch(body.headers.get("content-range", ""))
            if self._done == 0 or not match or int(match[1]) != self._done:
                raise _OtherError(f"starts at another byte than the requested {self._done:,}")
        elif self._done:
            self._restart()
        length = body.headers.get("content-length")
        if length is None:
            return
        if not _LENGTH.fullmatch(length) or self._done + int(length) != self._expected.size:
            shown = f"{self._done + int(length):,}" if _LENGTH.fullmatch(length) else repr(length[:40])
            raise _OtherError(f"has {shown} bytes, but the registry announced {self._expected.size:,}")


_AGAIN = "Check the network, then run the same command again; it continues where it stopped."


def _pause(seconds: float) -> None:
    time.sleep(seconds)
