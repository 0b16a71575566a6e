"""main() in this process."""

import pytest
from cli_runs import Result

from lottapack_cli.app import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Return main() with captured output."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call
