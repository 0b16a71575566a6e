"""Paths of the specification and its vectors, and readers of the vectors. Independent of lottapack."""

import json
import re
from pathlib import Path
from typing import Any

SPEC = Path(__file__).parents[2] / "spec"
V1 = SPEC / "v1"
VECTORS = V1 / "vectors"
SUFFIX = ".lotta.safetensors"


def answers(name: str) -> dict[str, Any]:
    """Read a file of known answers, such as ``elements``."""
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return loaded


def files(folder: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the packs in ``files/<folder>`` by name, with their sidecars."""
    found = {}
    for pack in sorted((VECTORS / "files" / folder).glob(f"*{SUFFIX}")):
        name = pack.name.removesuffix(SUFFIX)
        found[name] = pack, json.loads(pack.with_name(f"{name}.json").read_text("utf-8"))
    return found


def split(pack: Path) -> tuple[dict[str, Any], bytes]:
    """Return header and data of a safetensors file, unchecked."""
    whole = pack.read_bytes()
    data_start = 8 + int.from_bytes(whole[:8], "little")
    return json.loads(whole[8:data_start]), whole[data_start:]


def descriptor_of(pack: Path) -> dict[str, Any]:
    """Return the descriptor of a pack, unchecked."""
    descriptor: dict[str, Any] = json.loads(split(pack)[0]["__metadata__"]["lottapack"])
    return descriptor


def examples() -> list[tuple[str, str, Any]]:
    """Return the fenced JSON of the pages: place, kind of example, value."""
    found = []
    for page in sorted(SPEC.rglob("*.md")):
        text = page.read_text("utf-8")
        for block in re.finditer(r"^```json (\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, block.start()) + 1
            found.append((f"{page.name}:{line}", block[1], json.loads(block[2])))
    return found


def schema(name: str) -> dict[str, Any]:
    """A schema for Python: its patterns are of ECMA-262, where $ is the end of the text alone."""
    text = (V1 / f"{name}.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(re.sub(r'("pattern": "(?:[^"\\]|\\.)*)\$"', r'\1\\\\Z"', text))
    return loaded
