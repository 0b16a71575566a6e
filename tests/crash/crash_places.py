"""Places where writing fails: a full disk, and a folder that is read-only even for root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(folder: Path, *options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], timeout=300, check=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mount a file system of a few kilobytes."""
    _mount(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Mount a folder that is read-only even for root."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, "--bind", str(folder))
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], timeout=300, check=True)
        yield folder
    finally:
        _unmount(folder)
