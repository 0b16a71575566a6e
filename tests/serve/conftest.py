"""A registry in this process, with one repository."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import prompt_stop  # noqa: F401
import pytest
from serve_runs import ask

from lottapack_serve import background
from lottapack_serve.server import Running


@contextmanager
def serving(root: Path) -> Iterator[Running]:
    """Without tokens, so open to this machine; with the empty repository ``org/digits``."""
    with background(root) as running:
        made = ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        assert made.status == 200
        yield running


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    """A registry for one test."""
    with serving(tmp_path / "registry") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A shared registry for read-only requests."""
    with serving(tmp_path_factory.mktemp("shared") / "registry") as running:
        yield running
