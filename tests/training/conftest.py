"""The command line in this process, from another folder's helpers."""

import sys
from pathlib import Path

import pytest

for folder in ("unit", "cli"):
    sys.path.append(str(Path(__file__).parents[1] / folder))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """main() with its output captured."""
    from cli_runs import Result

    from lottapack_cli.app import main

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call
