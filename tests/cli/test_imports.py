"""Commands that do not compute with tensors do not import torch."""

import subprocess
import sys

import pytest
from cli_runs import Files

HEAVY = ("torch", "numpy", "transformers", "matplotlib", "sklearn", "numba")
CLIENTS = ("huggingface_hub", "oras", "starlette", "uvicorn", "yaml")

CHECK = """
import sys
from lottapack_cli.app import main
code = main(sys.argv[1:])
print("LOADED", *[name for name in {heavy!r} if name in sys.modules])
sys.exit(code)
"""


def loaded(*arguments: object) -> set[str]:
    """Return the heavy libraries that a command imports, in its own process."""
    command = [sys.executable, "-c", CHECK.format(heavy=HEAVY + CLIENTS), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "line", [["--help"], ["pack", "--help"], ["demo", "--help"], ["push", "--help"], ["pull", "--help"], ["--version"]]
)
def test_help_is_light(line: list[str]) -> None:
    assert loaded(*line) == set()


@pytest.mark.parametrize("line", [["inspect"], ["inspect", "--all"], ["inspect", "--json"], ["report"]])
def test_reading_a_header_is_light(line: list[str], files: Files) -> None:
    assert loaded(*line, files.pack) == set()


def test_the_check_can_fail(files: Files) -> None:
    """verify builds the architecture, and so does import torch."""
    assert "torch" in loaded("verify", files.pack)
