"""The program that makes the vectors reproduces the committed files and detects a difference."""

import ast
import shutil
import subprocess
import sys

import pytest
from spec_files import VECTORS

MODULES = sorted([VECTORS / "generate.py", *(VECTORS / "maker").glob("*.py")])


def check(folder):
    command = [sys.executable, "-W", "error", folder / "generate.py", "--check"]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.slow
def test_the_vectors_are_what_the_generator_makes():
    result = check(VECTORS)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@pytest.mark.every
def test_a_changed_vector_is_noticed(tmp_path):
    copy = shutil.copytree(VECTORS, tmp_path / "vectors")
    elements = copy / "elements.json"
    elements.write_bytes(elements.read_bytes().replace(b'"values": ["', b'"values": ["f', 1))
    (copy / "files" / "valid" / "minimal.json").unlink()
    (copy / "files" / "invalid" / "surplus.json").touch()
    result = check(copy)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "differs or is missing: elements.json",
        "differs or is missing: files/valid/minimal.json",
        "is not a vector: files/invalid/surplus.json",
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_the_generator_needs_numpy_alone(module):
    tree = ast.parse(module.read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name.partition(".")[0] for name in imported} <= {*sys.stdlib_module_names, "numpy", "maker"}
