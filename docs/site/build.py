"""Build the documentation as a site: every page of the repository at its own place, and two made from the code.

The site has the repository's folders, so that each link between pages works in both. Run by ``make docs``.
"""

import html
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

import lottapack
from lottapack_cli import schemas

ROOT = Path(__file__).parents[2]
STAGE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
PAGES = (
    "*.md",
    "docs/*.md",
    "spec/*.md",
    "spec/v1/*.md",
    "spec/v1/vectors/*.md",
    "spec/decisions/*.md",
    "spec/c/*.md",
    "spec/js/*.md",
    "benchmarks/*.md",
)
MORE = (
    "docs/*.svg",
    "docs/notebooks/*.ipynb",
    "spec/v1/*.json",
    "spec/c/*.c",
    "spec/v1/vectors/*.json",
    "spec/v1/vectors/*.tsv",
    "spec/v1/vectors/*.py",
    "examples/*.py",
    "examples/**/README.md",
    "examples/*/*.py",
    "benchmarks/*.jsonl",
    "LICENSE",
)

LIST = ROOT / "lottapack" / "__init__.pyi"
"""The public names, by section; a comment heads each."""
APART = ("registry", "rng", "__version__")
"""What the reference shows under the functions of other sections, or not at all."""


def public() -> dict[str, list[str]]:
    """The sections of the reference, and the full names in each: functions, and what their modules name beside them."""
    found: dict[str, list[str]] = {}
    for line in LIST.read_text("utf-8").splitlines():
        if line.startswith("# "):
            section = line[2:]
        elif line.startswith("from "):
            name = line.rpartition(" as ")[2]
            value = getattr(lottapack, name)
            if name in APART:
                continue
            if isinstance(value, ModuleType):
                named = [getattr(value, one) for one in names_of(value)]
                found.setdefault(f"lottapack.{name}", []).extend(map(full, named))
            else:
                home = sys.modules[value.__module__]
                beside = [getattr(home, one) for one in getattr(home, "__all__", ())]
                named = [value, *(one for one in beside if isinstance(one, type))]
                found.setdefault(section, []).extend(map(full, named))
    taken: set[str] = set()
    for section in reversed(found):  # a name stands with the functions, if one of them has it, and once
        found[section] = [name for name in dict.fromkeys(found[section]) if name not in taken]
        taken.update(found[section])
    return {section: names for section, names in found.items() if names}


def names_of(module: ModuleType) -> list[str]:
    """The public names of a module: ``__all__``, or its classes."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return list(getattr(module, "__all__", [name for name in own if not name.startswith("_")]))


def full(value: Any) -> str:
    """The name of a function or class with its module."""
    return f"{value.__module__}.{value.__name__}"


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
    (STAGE / "docs" / "json.md").write_text("\n".join(json_output()), "utf-8")
    (STAGE / "docs" / "json.schema.json").write_text(json.dumps(schemas.document(), indent=1), "utf-8")
    for path in sorted(ROOT.glob("docs/notebooks/*.ipynb")):
        page = STAGE / path.relative_to(ROOT).with_suffix(".md")
        page.write_text("\n".join(notebook(json.loads(path.read_text("utf-8")), path.name)), "utf-8")
    (STAGE / "docs" / "python.md").write_text("\n".join(python()), "utf-8")


def notebook(content: dict[str, Any], name: str) -> Iterator[str]:
    """The page of a notebook: its text, its code, and what the code printed when it was saved."""
    for number, cell in enumerate(content["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{text}\n"
            if number == 0:
                yield f"[Download this notebook]({name})\n"
            continue
        yield f"```python\n{text}\n```\n"
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" in data:
                yield f"{''.join(data['text/html'])}\n"
            elif output.get("name") != "stderr":
                yield f"```text\n{''.join(data.get('text/plain', output.get('text', ''))).rstrip()}\n```\n"


def python() -> Iterator[str]:
    """The page of the Python library: a directive for each public name, which is replaced by its docstring."""
    yield "# Python\n\nImport names from `lottapack`, or from the module in the heading of their section. The examples "
    yield "run after `import lottapack, numpy, torch` and `from torch import nn`, in a folder with a pack "
    yield "(`model.lotta.safetensors`), its checkpoint (`checkpoint.pt`) and a pair of keys.\n"
    for section, names in public().items():
        yield f"## {section}\n"
        for name in names:
            yield f"::: {name}\n"


def command_line() -> Iterator[str]:
    """The page of the command line, from the commands themselves."""
    from lottapack_cli.app import app

    program = typer.main.get_command(app)
    yield "# Command line\n"
    yield "Every command accepts `--help`. Exit codes: 0 done, 1 a check failed, 2 wrong usage or unreadable input, 3 "
    yield "a registry or the network.\n"
    yield from _command(program, "lottapack")


def json_output() -> Iterator[str]:
    """The page of what --json prints, from the schemas that the tests hold."""
    yield "# JSON output\n"
    yield f"{(schemas.__doc__ or '').partition(chr(10) * 2)[2]}"
    yield "With `--json` each command prints one object, also when it fails: then `ok` is false, and `error` says why."
    yield "As a schema: [json.schema.json](json.schema.json).\n"
    for command, forms in schemas.COMMANDS.items():
        yield f"## lottapack {command}\n"
        for fields in forms:
            yield from _fields({"ok": schemas.OK, **fields, "warnings": schemas.WARNINGS})
    yield "## A failure\n"
    yield from _fields(schemas.REFUSAL["properties"])


def _fields(fields: dict[str, Any]) -> Iterator[str]:
    yield "| field | type | meaning |\n|---|---|---|"
    yield from _field_rows(fields, "")
    yield ""


def _field_rows(fields: dict[str, Any], above: str) -> Iterator[str]:
    for name, schema in fields.items():
        null = any(form.get("type") == "null" for form in schema.get("anyOf", ()))
        inner = schema
        while "anyOf" in inner:
            inner = inner["anyOf"][0]
        items = inner.get("items", {})
        if len(items.get("anyOf", ())) > 1:  # one of several packs, or its error
            merged = {**items["anyOf"][0]["properties"], **items["anyOf"][1]["properties"]}
            items = {**items, "properties": merged}
        kind = f"list of {items['type']}" if "type" in items else inner.get("type", "any")
        choices = f" One of {', '.join(f'`{one}`' for one in inner['enum'])}." if "enum" in inner else ""
        yield f"| `{above}{name}` | {kind}{' or null' if null else ''} | {schema['description']}{choices} |"
        yield from _field_rows(inner.get("properties", {}), f"{above}{name}.")
        yield from _field_rows(items.get("properties", {}), f"{above}{name}[].")


def _command(command: Any, name: str) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    if hasattr(command, "list_commands"):
        if command.invoke_without_command and context.parent is None and name != "lottapack":
            yield from _one(command, name, context)
        for sub in command.list_commands(context):
            found = command.get_command(context, sub)
            if found is not None and not found.hidden:
                yield from _command(found, f"{name} {sub}")
        return
    yield from _one(command, name, context)


def _one(command: Any, name: str, context: Any) -> Iterator[str]:
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
    left, right = (html.escape(text, quote=False).replace("|", "&#124;").replace("\n", " ").strip() for text in record)
    return f"| <code>{left}</code> | {right} |"


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
