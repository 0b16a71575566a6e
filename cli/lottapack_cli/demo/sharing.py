"""The demo's registry: a server on a free loopback port, and the environment variables that make clients use it."""

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
"""Time limit in seconds for a process of the demo; each takes a few seconds."""


@dataclass(frozen=True, slots=True)
class Shop:
    """``url``: where the registry is; ``home``: an empty folder for the clients' cache."""

    url: str
    home: Path

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that uses this registry, without this user's token and settings."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {**plain, "HF_ENDPOINT": self.url, "HF_HOME": str(self.home)}


@contextmanager
def opened() -> Iterator[Shop]:
    """Serve a registry while the block runs, and delete its contents afterwards."""
    with (
        TemporaryDirectory(prefix="lottapack-demo-") as name,
        lottapack_serve.background(Path(name) / "registry") as server,
    ):
        yield Shop(server.url, Path(name) / "home")


def push(shop: Shop, pack: Path) -> dict[str, object]:
    """Push with the real command, and return what it printed."""
    out = run(shop, "lottapack_cli", "push", str(pack), REPO, "--tag", TAG, "--json")
    printed: dict[str, object] = json.loads(out)
    return printed


def run(shop: Shop, module: str, *arguments: str) -> bytes:
    """Run a Python module in a new process, and return what it prints."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE, env=shop.environment())
    if done.returncode:
        output = done.stderr.decode(errors="replace")
        raise RuntimeError(f"{module} {' '.join(arguments)} failed with {done.returncode}:\n{output}")
    return done.stdout
