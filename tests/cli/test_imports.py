"""Commands that do not compute with tensors do not import torch."""

import pkgutil
import subprocess
import sys

import pytest
import typer
from cli_runs import Files

from lottapack_cli import commands
from lottapack_cli.app import SUMMARIES, app

HEAVY = ("torch", "numpy", "transformers", "matplotlib", "sklearn", "numba")
CLIENTS = ("huggingface_hub", "oras", "starlette", "uvicorn", "yaml")
READERS = ("msgspec", "lottapack.registry")

CHECK = """
import sys
from lottapack_cli.app import main
code = main(sys.argv[1:])
print("LOADED", *[name for name in {heavy!r} if name in sys.modules])
sys.exit(code)
"""

ONE = """
import sys
from lottapack_cli.app import main
main({words!r})
print(*sorted(name for name in sys.modules if name.startswith("lottapack_cli.commands")))
"""


def loaded(*arguments: object) -> set[str]:
    """Return the heavy libraries that a command imports, in its own process."""
    command = [sys.executable, "-c", CHECK.format(heavy=HEAVY + CLIENTS + READERS), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "line", [["--help"], ["pack", "--help"], ["demo", "--help"], ["push", "--help"], ["pull", "--help"], ["--version"]]
)
def test_help_is_light(line: list[str]) -> None:
    assert loaded(*line) == set()


@pytest.mark.parametrize("line", [["inspect"], ["inspect", "--all"], ["inspect", "--json"], ["report"]])
def test_reading_a_header_is_light(line: list[str], files: Files) -> None:
    assert loaded(*line, files.pack) <= set(READERS)


def test_a_command_imports_no_other(files: Files) -> None:
    command = [sys.executable, "-c", ONE.format(words=["inspect", str(files.pack)])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1].split() == ["lottapack_cli.commands", "lottapack_cli.commands.inspect"]
    done = subprocess.run(
        [sys.executable, "-c", ONE.format(words=["--help"])], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines()[-1].split() == []


def test_the_help_lists_what_each_command_says_of_itself() -> None:
    group = typer.main.get_command(app)
    assert {name: command.get_short_help_str(200) for name, command in group.commands.items()} == SUMMARIES  # type: ignore[attr-defined]
    modules = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    assert set(SUMMARIES) == modules - {"token"}  # a part of serve


def test_the_check_can_fail(files: Files) -> None:
    """verify builds the architecture, and so does import torch."""
    assert "torch" in loaded("verify", files.pack)
