"""What a test does that lacks something: it is skipped, and in CI it fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = {
    "test_module.py": "import pytest\npytest.importorskip('nothing_of_this_name')\ndef test_a(): pass\n",
    "test_others.py": """
import pytest
def test_library(): pytest.importorskip("nothing_of_this_name")
def test_program(): pytest.skip("missing: a program: apt-get install it")
@pytest.mark.skipif(True, reason="missing: an environment: make unit")
def test_marked(): pass
def test_device(): pytest.skip("no CUDA device")
def test_passes(): pass
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="CI has everything on Linux alone")
@pytest.mark.parametrize(
    ("ci", "options", "counts"),
    [
        ("true", (), {"passed": 1, "skipped": 1, "failed": 2, "error": 2}),
        ("true", ("-p", "core_only"), {"passed": 1, "skipped": 5}),
        ("", (), {"passed": 1, "skipped": 5}),
    ],
)
def test_skips_that_hide_something_fail_in_ci(tmp_path, ci, options, counts):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "missing", *options, "--continue-on-collection-errors", "-q"]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(Path(__file__).parent)}
    options = {"cwd": tmp_path, "env": environment, "timeout": 60, "check": False}
    done = subprocess.run(command, capture_output=True, text=True, **options)
    last = done.stdout.strip().splitlines()[-1]
    assert {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+?)s?\b(?=[ ,])", last)} == counts, done.stdout
