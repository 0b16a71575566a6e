"""Each public name documents arguments, errors and source, and its example runs."""

import doctest
import inspect
import warnings

import numpy
import pytest
import torch
from torch import nn

import lottapack

MODULES = (lottapack, *(getattr(lottapack, n) for n in lottapack.__all__ if inspect.ismodule(getattr(lottapack, n))))
FUNCTIONS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in getattr(module, "__all__", ())
    if inspect.isfunction(inspect.unwrap(getattr(module, name)))
} | {f"lottapack.{name}": getattr(lottapack, name) for name in ("Compression", "ProgressBar")}
RAISE_NOTHING = {"binary32", "table_fault", "fingerprint_hex", "exclude_from_ddp", "ProgressBar"}
"""Functions without errors of their own."""
NEED = {
    "keys": ("lottapack.sign",),
    "hub": ("lottapack.push",),
    "digits": ("lottapack.pull", "lottapack.list_packs", "lottapack.history", "lottapack.registry."),
    "one_process": ("lottapack.distributed.load",),
}
"""Fixtures, and the examples that need them."""
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def sections(text: str) -> set[str]:
    return {line.rstrip(":") for line in inspect.cleandoc(text).splitlines() if line.endswith(":") and line[0] != " "}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_public_function_has_every_section(name):
    function = FUNCTIONS[name]
    first, _, rest = inspect.cleandoc(function.__doc__).partition("\n")
    verb = first.split()[0]
    assert (
        first.endswith(".") and verb[0].isupper() and not verb.endswith("s") and verb not in ("A", "An", "The", "What")
    )
    assert not rest or rest.startswith("\n")
    due = {"Examples", "Source"}
    if inspect.signature(function).parameters:
        due.add("Args")
    if function.__name__ not in RAISE_NOTHING:
        due.add("Raises")
    assert due - sections(function.__doc__) == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_parameter_is_explained(name):
    function = FUNCTIONS[name]
    text = inspect.cleandoc(function.__doc__)
    lines = text.partition("\nArgs:\n")[2].split("\n\n")[0].splitlines()
    explained = [line.strip().partition(":")[0].lstrip("*") for line in lines if line[:4] == "    " and line[4] != " "]
    assert explained == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_run(name, folder, request):
    if name == "lottapack.build":
        pytest.importorskip("ncps")
    if name.startswith("lottapack.onnx."):
        for library in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(library)
    for library in ("jax", "mlflow", "mlx"):
        if name.startswith(f"lottapack.{library}."):
            pytest.importorskip(library)
    for fixture, names in NEED.items():
        if name.startswith(names):
            request.getfixturevalue(fixture)
    found = doctest.DocTestFinder(recurse=False).find(
        FUNCTIONS[name], name, globs={"lottapack": lottapack, "torch": torch, "nn": nn, "numpy": numpy}
    )
    runner, said = doctest.DocTestRunner(optionflags=OPTIONS), []
    with warnings.catch_warnings():
        if name.startswith("lottapack.mlflow."):
            warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported
        for test in found:
            assert test.examples
            runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
