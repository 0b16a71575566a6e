"""A small trained pack, a server with a client, and main() with captured output."""

from collections.abc import Iterator
from pathlib import Path

import prompt_stop  # noqa: F401
import pytest
from hub_runs import Hub, Result, Run, lead_to, make_pack, serving

from lottapack_cli.app import main


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_pack(tmp_path / "digits.lotta.safetensors")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "registry", tmp_path / "home") as running:
        lead_to(monkeypatch, running.url, running.home)
        yield running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """main() in this process."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call
