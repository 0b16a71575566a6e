"""Unwritable or damaged object files of kernels do not change results.

The real kernels take seconds to compile; this is a small one, cached the same way.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_places import small_disk
from extent import extent

ROOT = Path(__file__).parents[2]
MODULE = """
from lottapack.rng.kernels.compiler import jit

@jit
def double(numbers):
    for i in range(numbers.size):
        numbers[i] += numbers[i]
"""
CALL = """
import sys
import numpy as np
from lottapack.rng.kernels import object_files
from lottapack.rng.kernels.kernel import Kernel
# (A prefix for all that Python compiles would have it compile numba's modules as well.)
object_files.cache_from_source = lambda _, cache=sys.argv.pop(1): cache + "/_"
double = Kernel("module", "double", "bits[]")
compiled = []
real = Kernel._compiled
Kernel._compiled = lambda *given: (compiled.append(given), real(*given))[1]
for word in sys.argv[1:]:
    numbers = np.arange(100, dtype=word)
    double(numbers)
    assert numbers.tolist() == list(range(0, 200, 2)), numbers
assert ("numba" in sys.modules) == bool(compiled)
print(len(compiled))
"""
BOTH = ("uint32", "uint16")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "module.py").write_text(MODULE)
    return folder


def call(source: Path, cache: Path, *words: str, library: Path = ROOT, **environment: str) -> int:
    """Call the kernel in a new process; return the number of compilations."""
    environment = {**os.environ, "PYTHONPATH": f"{source}:{library}", **environment}
    line = [sys.executable, "-P", "-W", "error", "-c", CALL, str(cache), *words]
    done = subprocess.run(line, env=environment, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("double-*.o"))


@pytest.fixture
def cache(source: Path, tmp_path: Path) -> Path:
    """With both forms of the kernel."""
    assert call(source, tmp_path / "cache", *BOTH) == 2
    assert len(files(tmp_path / "cache")) == 2
    return tmp_path / "cache"


def test_what_was_compiled_is_used_without_numba(source: Path, cache: Path) -> None:
    assert call(source, cache, *BOTH) == 0


def test_files_that_were_cut_short_or_changed_are_made_again(source: Path, cache: Path) -> None:
    """Machine code with one flipped bit could do anything."""
    one, other = files(cache)
    one.write_bytes(one.read_bytes()[: one.stat().st_size // 2])
    changed = bytearray(other.read_bytes())
    changed[len(changed) // 2] ^= 1
    other.write_bytes(changed)
    assert call(source, cache, *BOTH) == 2
    one.write_bytes(b"")
    assert call(source, cache, *BOTH) == 1
    assert call(source, cache, *BOTH) == 0


def test_processes_side_by_side(source: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{source}:{ROOT}"}
    lines = [[sys.executable, "-P", "-c", CALL, str(tmp_path), *words] for words in (BOTH, BOTH[::-1])]
    started = [subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) for line in lines * 2]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    assert call(source, tmp_path, *BOTH) == 0


def test_a_disk_that_is_full(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=16) as disk:
        (disk / "rest").write_bytes(bytes(14_000))
        assert call(source, disk, *BOTH, LOTTAPACK_CACHE=str(disk)) == 2
        assert not [path for path in disk.rglob("*") if path.suffix in {".o", ".tmp"}]


def test_where_nothing_can_be_written_beside_the_source_the_users_cache_is_used(source: Path, tmp_path: Path) -> None:
    taken, own = tmp_path / "taken", tmp_path / "own"
    taken.write_bytes(b"no folder can have this name")
    assert call(source, taken, *BOTH, LOTTAPACK_CACHE=str(own)) == 2
    assert len(files(own)) == 2
    assert call(source, taken, *BOTH, LOTTAPACK_CACHE=str(own)) == 0


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_code_in_a_cache_of_somebody_elses_is_not_run(source: Path, tmp_path: Path) -> None:
    taken, own = tmp_path / "taken", tmp_path / "own"
    taken.write_bytes(b"no folder can have this name")
    assert call(source, taken, *BOTH, LOTTAPACK_CACHE=str(own)) == 2
    file = files(own)[0]
    os.chown(file, 12345, -1)
    assert call(source, taken, *BOTH, LOTTAPACK_CACHE=str(own)) == 1
    assert file.stat().st_uid == 0, "it was made again"


@pytest.mark.parametrize("place", extent(["module.py"], ["lottapack/rng/stream.py", "module.py"]))
def test_other_source_of_the_same_time_and_size_is_other_source(place: str, source: Path, tmp_path: Path) -> None:
    """Two releases may carry the same file times (1980), or a clock was set back."""
    library, cache = tmp_path / "library", tmp_path / "cache"
    shutil.copytree(ROOT / "lottapack", library / "lottapack", ignore=shutil.ignore_patterns("__pycache__"))
    assert call(source, cache, "uint32", library=library) == 1
    assert call(source, cache, "uint32", library=library) == 0
    changed = (source if place == "module.py" else library) / place
    times = changed.stat().st_atime_ns, changed.stat().st_mtime_ns
    changed.write_bytes(changed.read_bytes() + b"\n")
    os.utime(changed, ns=times)
    assert call(source, cache, "uint32", library=library) == 1
    assert len(files(cache)) == 1, "the code of the other source was left"
