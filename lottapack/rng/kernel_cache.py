"""Compiled kernels on disk, so that a kill, a full disk or another process never gives one kernel for another.

numba's own cache has one index for all forms of a function and numbers their files. If it is killed between index and
file, or two processes write at once, the index can name another form's file, or one that older source left. And it
notices a change of the source by time and size of one file only. Here each form has files of its own, named by a hash
of all that it was made from; whatever cannot be read is compiled anew, and what cannot be written is not kept.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """Compile on first use, and keep the result on disk if there is a place to."""
    dispatcher = numba.njit(nogil=True)(function)
    with suppress(RuntimeError):  # numba found no writable place
        dispatcher._cache = _Cache(function)
    return cast(F, dispatcher)


class _Cache(FunctionCache):  # type: ignore[misc]
    """The cache of one function."""

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        self._cache_file = self._files(sig, target_context.codegen())
        try:
            return super()._load_overload(sig, target_context)
        except Exception:  # noqa: BLE001 - whatever pickle makes of a file that was cut short
            return None

    def _save_overload(self, sig: Any, data: Any) -> None:
        self._cache_file = self._files(sig, data.codegen)
        try:
            self._cache_file.flush()  # an index that cannot be read would stop save()
            super()._save_overload(sig, data)
            self._sweep()
        except Exception:  # noqa: BLE001 - the same, and whatever keeps a file from being written
            return

    def _files(self, sig: Any, codegen: Any) -> IndexDataCacheFile:
        """The files of one form of the function: argument types and processor."""
        form = hashlib.sha256(repr(self._index_key(sig, codegen)).encode()).hexdigest()
        name = f"{self._impl.filename_base}-{self._source()}-{form[:24]}"
        return IndexDataCacheFile(self._cache_path, name, self._impl.locator.get_source_stamp())

    def _sweep(self) -> None:
        """Remove what other source of this function left in this folder."""
        function = self._impl.filename_base.partition("-")[0]
        for path in Path(self._cache_path).glob(f"{function}-*.nb[ci]"):
            if f"-{self._source()}-" not in path.name:
                path.unlink(missing_ok=True)

    def _source(self) -> str:
        return _source(Path(self._py_func.__code__.co_filename))


@cache
def _source(own: Path) -> str:
    """All that a kernel is made from: its module and this package's source, and the compiler's version."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted({own, *Path(__file__).parent.glob("*.py")}):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]
