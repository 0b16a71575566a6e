"""The command line, in a process of its own, and what a run leaves behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Files(NamedTuple):
    """Write a checkpoint of a scaffolded model and its pack."""

    checkpoint: Path
    pack: Path


Run = Callable[..., Result]


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Start the real command in its own process."""
    command = [sys.executable, "-m", "lottapack_cli", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, "env": {**os.environ, "COLUMNS": "80"}, **options})


def real(*arguments: object) -> Result:
    """Run the real command to its end."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=120)
    return Result(process.returncode, out, err)
