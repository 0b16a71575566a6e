"""Lock a file of a cache against other processes, also on file systems that do not support locks."""

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

_MODE = 0o664
"""As the Hub's client makes its locks: users of one group who share a cache can lock what another one has locked."""
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


def acquired(path: Path) -> BaseFileLock:
    """Wait for the lock and return it; the caller releases it. Raises OSError if the file cannot be created."""
    lock: BaseFileLock = FileLock(path, mode=_MODE)
    try:
        lock.acquire()
    except NotImplementedError:  # as older versions of the library say that the file system has no locks
        lock = SoftFileLock(path, mode=_MODE)
        lock.acquire()
    except OSError as fault:
        if fault.errno not in _WITHOUT_LOCKS:
            raise
        lock = SoftFileLock(f"{path}.soft", mode=_MODE)  # the other file may be left of the attempt
        lock.acquire()
    return lock
