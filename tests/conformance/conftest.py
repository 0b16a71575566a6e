"""The readers that the kit is run against."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

C = Path(__file__).parents[2] / "spec" / "c"


def built(folder: Path, *goal: str) -> Path:
    """Build the reader in C, and return the program's path. Skip the test without a compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which("make") is None:
        pytest.skip("needs a C compiler and make")
    done = subprocess.run(["make", "-C", C, f"CC={compiler}", f"OUT={folder}", *goal], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning"
    return folder / ("lotta-checked" if goal else "lotta")


@pytest.fixture(scope="session")
def c_reader(tmp_path_factory):
    """The reader in C."""
    return built(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="session")
def checked_c_reader(tmp_path_factory):
    """The same with the sanitizers."""
    return built(tmp_path_factory.mktemp("checked"), "checked")
