"""Building the reader in C of spec/c."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

C = Path(__file__).parents[1] / "spec" / "c"


def compiler() -> str | None:
    """Return a C compiler's path, or None without one or without make."""
    found = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return found if shutil.which("make") else None


def built(folder: Path, *goal: str) -> Path:
    """Build the reader, and return the program's path. Skip the test without a compiler."""
    found = compiler()
    if found is None:
        pytest.skip("needs a C compiler and make")
    done = subprocess.run(["make", "-C", C, f"CC={found}", f"OUT={folder}", *goal], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning"
    return folder / ("lotta-checked" if goal else "lotta")
