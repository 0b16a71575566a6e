"""The command line in this process, from another folder's helpers."""

import pytest
from cli_runs import Result

from lottapack_cli.app import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """main() with its output captured."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call
