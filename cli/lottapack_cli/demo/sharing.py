"""The demo's registry: a server on a free loopback port, and the environment that makes clients use it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import lottapack_serve

REPO, TAG = "demo/digits", "v1"
_PATIENCE = 300
"""Seconds for a process of the demo; each needs a few."""


@dataclass(frozen=True, slots=True)
class Shop:
    """``url``: where the registry is; ``home``: an empty folder for the clients' cache."""

    url: str
    home: Path

    def environment(self) -> dict[str, str]:
        """For a process that is to use this registry, with no token and nothing else of this user's."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {**plain, "HF_ENDPOINT": self.url, "HF_HOME": str(self.home)}


@contextmanager
def opened() -> Iterator[Shop]:
    """A registry for as long as the block runs; what was in it is deleted."""
    with (
        TemporaryDirectory(prefix="lottapack-demo-") as name,
        lottapack_serve.background(Path(name) / "registry") as server,
    ):
        yield Shop(server.url, Path(name) / "home")


def push(shop: Shop, pack: Path) -> dict[str, object]:
    """Push with the real command; returns what it printed."""
    out = run(shop, "lottapack_cli", "push", str(pack), REPO, "--tag", TAG, "--json")
    found: dict[str, object] = json.loads(out)
    return found


def run(shop: Shop, module: str, *arguments: str) -> bytes:
    """What a Python module prints that runs in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE, env=shop.environment())
    if done.returncode:
        told = done.stderr.decode(errors="replace")
        raise RuntimeError(f"{module} {' '.join(arguments)} failed with {done.returncode}:\n{told}")
    return done.stdout
