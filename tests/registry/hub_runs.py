"""A Hub on loopback for tests, its log, and its clients' environment."""

import base64
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from huggingface_hub import HfApi, constants
from torch import nn

import lottapack
from lottapack_serve import background
from lottapack_serve.server import Running
from lottapack_serve.traffic import Served


class Result(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def make_pack(path: Path, seed: int = 42, width: int = 32) -> Path:
    """Write a pack of a tiny model. ``width``: each unit's bias adds 4 bytes to the pack."""
    model = lottapack.scaffold(nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4)), seed=seed, rank=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    lottapack.pack(model, path)
    return path


@dataclass(frozen=True, slots=True)
class Hub:
    """``log``: the server's; ``home``: the client's HF_HOME."""

    server: Running
    log: list[Served]
    home: Path

    @property
    def served(self) -> list[Served]:
        """Return all requests so far. The server logs after it answers, so this sends one more request first."""
        marker = f"/marker-{secrets.token_hex(8)}"
        try:
            urllib.request.urlopen(self.url + marker, timeout=300).close()
        except urllib.error.HTTPError as refused:
            refused.close()
        for _ in range(500):
            found = [number for number, one in enumerate(self.log) if one.path == marker]
            if found:
                del self.log[found[0]]
                return self.log
            time.sleep(0.01)
        raise AssertionError("the server notes nothing")

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def api(self) -> HfApi:
        """Return a stock client, with the environment's token."""
        return HfApi(self.url)

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment for a process."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        told = {"HF_ENDPOINT": self.url, "HF_HOME": str(self.home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return {**plain, **told, "COLUMNS": "80", **more}

    def commit(self, repo: str, name: str, content: bytes) -> str:
        """Commit a file without the client's checks. Returns the commit."""
        file = {"content": base64.b64encode(content).decode(), "path": name, "encoding": "base64"}
        lines = [{"key": "header", "value": {"summary": "raw"}}, {"key": "file", "value": file}]
        body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        request = urllib.request.Request(f"{self.url}/api/models/{repo}/commit/main", body, headers)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return str(json.load(answer)["commitOid"])

    def store_file(self, content: bytes) -> Path:
        """Return the server's path of these bytes."""
        [found] = [path for path in self.server.root.rglob("*") if path.is_file() and path.read_bytes() == content]
        return found


@contextmanager
def serving(root: Path, home: Path) -> Iterator[Hub]:
    """Run a server while the block runs."""
    served: list[Served] = []
    with background(root, log=served.append) as server:
        yield Hub(server, served, home)


def lead_to(patch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Point this process's huggingface_hub to that server, with its own cache and no token."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        patch.delenv(name)
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}")
    patch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "agents.json"), raising=False)  # of newer versions
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
