"""Build the documentation as a site: every page of the repository at its own place, and two made from the code.

The site has the repository's folders, so that each link between pages works in both. Run by ``make docs``.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import lottapack

ROOT = Path(__file__).parents[2]
STAGE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
PAGES = (
    "*.md",
    "docs/*.md",
    "spec/*.md",
    "spec/v1/*.md",
    "spec/v1/vectors/*.md",
    "spec/decisions/*.md",
    "spec/js/*.md",
    "benchmarks/*.md",
)
MORE = (
    "docs/*.svg",
    "spec/v1/*.json",
    "spec/v1/vectors/*.json",
    "spec/v1/vectors/*.py",
    "examples/*.py",
    "examples/**/README.md",
    "examples/paper/*.py",
    "LICENSE",
)

PYTHON = {
    "Train": "scaffold build init_backbone_ switch active_scaffold scaffolds_of is_scaffolded regenerate_ "
    "exclude_from_ddp",
    "Pack": "pack PackResult Kept BackboneChangedWarning UnusedOptionWarning compare Comparison "
    "pack_merged MergedResult Layer pack_torch_cpu",
    "Load and export": "load load_meta fill_ load_numpy export",
    "Look and check": "inspect Summary verify Verification Check report Report open_pack PackFile",
    "Measure": "bench SpeedReport Speed",
    "Share and sign": "push PushResult pull PullResult list_packs log sign",
    "Random tensors": "draw table Table",
}
"""Public names by section of the reference; errors follow in a section of their own."""


def stage() -> None:
    """Copy what the site shows to STAGE, and write the pages that are made from the code."""
    shutil.rmtree(STAGE, ignore_errors=True)
    for pattern in (*PAGES, *MORE):
        for path in ROOT.glob(pattern):
            to = STAGE / path.relative_to(ROOT)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
    (STAGE / "README.md").rename(STAGE / "index.md")
    (STAGE / "docs" / "commands.md").write_text("\n".join(command_line()), "utf-8")
    (STAGE / "docs" / "python.md").write_text("\n".join(python()), "utf-8")


def python() -> Iterator[str]:
    """The page of the Python library: a directive for each public name, which is replaced by its docstring."""
    yield "# Python\n\nEach name is imported from `lottapack`.\n"
    errors = (name for name in lottapack.__all__ if isinstance(getattr(lottapack, name), type) and _is_error(name))
    for section, names in {**PYTHON, "Errors": " ".join(errors)}.items():
        yield f"## {section}\n"
        for name in names.split():
            yield f"::: {getattr(lottapack, name).__module__}.{name}\n"


def _is_error(name: str) -> bool:
    found = getattr(lottapack, name)
    return found.__module__ == "lottapack.errors"


def command_line() -> Iterator[str]:
    """The page of the command line, from the commands themselves."""
    from lottapack_cli.app import app

    program = typer.main.get_command(app)
    yield "# Command line\n"
    yield "Every command takes `--help`. Exit codes: 0 done, 1 a check failed, 2 wrong usage or unreadable input, 3 a "
    yield "registry or the network.\n"
    yield from _command(program, "lottapack")


def _command(command: Any, name: str) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    if hasattr(command, "list_commands"):
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None and not found.hidden:
                yield from _command(found, f"{name} {sub}")
        return
    yield f"## {name}\n"
    yield f"{command.help or ''}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```console\n$ {name} {usage}\n```\n"
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    if rows:
        yield "| argument or option | meaning |\n|---|---|"
        yield from rows
        yield ""


def _row(parameter: Any, context: Any) -> str | None:
    if getattr(parameter, "hidden", False):
        return None
    record = parameter.get_help_record(context)
    if record is None:
        record = parameter.make_metavar(context), getattr(parameter, "help", None) or ""
    left, right = (text.replace("|", "\\|").replace("\n", " ").strip() for text in record)
    return f"| `{left}` | {right.replace('<', '&lt;')} |"


def main() -> int:
    """Stage and build. Returns the builder's exit code: any warning is an error."""
    stage()
    config = Path(__file__).with_name("zensical.toml")
    shutil.copyfile(config, ROOT / "build" / "zensical.toml")
    program = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [program, "build", "--clean", "--strict", "-f", "zensical.toml"], cwd=ROOT / "build", check=False
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
