"""Messages of errors: each has a next step, and the library names Python arguments, never options of the command."""

import ast
import inspect
import re
from collections.abc import Iterator

from test_house import MODULES, parse

from lottapack import errors

KINDS = {
    name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.LottapackError)
}
LIBRARY = {name: path for name, path in MODULES.items() if name.partition(".")[0] == "lottapack"}
OPTION = re.compile(r"(?<![\w-])--[a-z]")
FOR_OTHERS = {
    "lottapack.arch.sealed": "ninja --version",
    "lottapack.conformance.__main__": "a command of its own",
    "lottapack.pushing.card": "a model card names the command",
}
"""Modules whose text is not a message of the library."""


def without_a_step(source: str) -> Iterator[int]:
    """Return the lines that make an error without a hint."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in KINDS:
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            hint = named.get("hint")
            empty = isinstance(hint, ast.Constant) and not hint.value
            if None not in named and (hint is None or empty):
                yield node.lineno


def options(source: str) -> Iterator[str]:
    """Return texts of a module, except docstrings, that name a command's option."""
    tree = parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    }
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    yield from (node.value for node in texts if id(node) not in docs and OPTION.search(node.value))


def found_in(fault):
    """What a search for faults finds, by module."""
    return {name: found for name, path in LIBRARY.items() if (found := list(fault(path.read_text("utf-8"))))}


def test_every_error_has_a_next_step():
    assert found_in(without_a_step) == {}


def test_the_library_names_no_option():
    assert found_in(options).keys() == {*FOR_OTHERS}


def test_the_rules_find_what_breaks_them():
    assert list(without_a_step("raise ScaffoldError('x')")) == [1]
    assert list(without_a_step("errors.FormatError(a, b, hint='')")) == [1]
    assert list(without_a_step("raise LimitError('x', hint=why); raise ValueError('x')")) == []
    assert list(options("def f():\n    'of --this'\nraise E('x', hint=f'Name it with --arch.')")) == [
        "Name it with --arch."
    ]
    assert list(options("a = '-----BEGIN'; b = 'x -- y'")) == []


def test_an_error_of_the_command_names_options(tmp_path, capsys):
    import torch

    from lottapack_cli.app import main

    torch.save({"weight": torch.ones(2, 2)}, tmp_path / "m.pt")
    assert main(["pack", str(tmp_path / "m.pt"), "--rng", "torch-cpu", "--seed", "1"]) == 2
    assert "--arch" in capsys.readouterr().err
