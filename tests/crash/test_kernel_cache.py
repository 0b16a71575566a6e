"""The cache of compiled kernels, when it cannot be written or was left in disorder: the same numbers come out.

The kernels themselves take seconds to compile; these are two small functions, cached the same way.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_places import small_disk

ROOT = Path(__file__).parents[2]
MODULE = """
from lottapack.rng.kernel_cache import jit

@jit
def double(x):
    return x + x
"""
CALL = """
import sys
from numba.core import event
compiled = []
class Note(event.Listener):
    def on_start(self, e): compiled.append(1)
    def on_end(self, e): pass
event.register("numba:compile", Note())
import module
for word in sys.argv[1:]:
    value = {"int": 21, "float": 0.5, "complex": 1j}[word]
    found = module.double(value)
    assert found == value + value and type(found) is type(value), found
print(len(compiled))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / "module.py").write_text(MODULE)
    return folder


def call(source: Path, cache: Path, *words: str, library: Path = ROOT) -> int:
    """Call the function in a new process; how often it had to be compiled."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": f"{source}:{library}"}
    line = [sys.executable, "-P", "-W", "error", "-c", CALL, *words]
    done = subprocess.run(line, env=environment, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture
def cache(source: Path, tmp_path: Path) -> Path:
    """A cache with two forms of the function."""
    assert call(source, tmp_path / "cache", "int", "float") == 2
    return tmp_path / "cache"


def test_a_cache_is_used(source: Path, cache: Path) -> None:
    assert call(source, cache, "float", "complex", "int") == 1


def test_files_that_were_cut_short_are_made_again(source: Path, cache: Path) -> None:
    """As a power failure leaves them, since nothing of the cache is flushed to disk."""
    [one, other] = sorted(cache.rglob("*.nbi"))
    one.write_bytes(b"")
    file = next(cache.rglob(f"{other.stem}*.nbc"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert call(source, cache, "int", "float") == 2
    assert call(source, cache, "int", "float") == 0


def test_an_index_without_its_file_is_no_other_files(source: Path, cache: Path) -> None:
    """As a kill leaves it that comes between the two: numba alone would take whatever has the number of the file."""
    for path in cache.rglob("*.nbc"):
        path.unlink()
    assert call(source, cache, "float") == 1
    assert call(source, cache, "int", "float") == 1


def test_two_processes_with_a_form_each(source: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": f"{source}:{ROOT}"}
    lines = [[sys.executable, "-P", "-c", CALL, *words] for words in (("int", "float"), ("float", "complex", "int"))]
    started = [subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) for line in lines * 2]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    assert call(source, tmp_path, "int", "float", "complex") == 0


def test_a_disk_that_is_full(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=16) as disk:
        assert call(source, disk, "int", "float", "complex") == 3
        assert not [path for path in disk.rglob("*") if ".tmp." in path.name]


def test_library_source_of_the_same_time_and_size_is_other_source(source: Path, tmp_path: Path) -> None:
    """As in two releases whose files all carry the time of 1980, or after a clock was set back.

    numba looks at the file of the function itself, and at nothing that it calls in another.
    """
    library = tmp_path / "library"
    shutil.copytree(ROOT / "lottapack", library / "lottapack", ignore=shutil.ignore_patterns("__pycache__"))
    assert call(source, tmp_path / "cache", "int", library=library) == 1
    assert call(source, tmp_path / "cache", "int", library=library) == 0
    changed = library / "lottapack" / "rng" / "vectors.py"
    before = changed.stat()
    changed.write_bytes(changed.read_bytes().replace(b"numba", b"Numba", 1))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (changed.stat().st_size, changed.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert call(source, tmp_path / "cache", "int", library=library) == 1
    assert len(list((tmp_path / "cache").rglob("*.nb[ci]"))) == 2  # what the other source left is gone
