"""Model cards: the YAML at the beginning of a README.md, as JSON."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lottapack.serve.blobs import BlobStore
from lottapack.serve.revisions import File

README = "README.md"
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_MAX_README, _MAX_FRONT, _MAX_DEPTH = 2**20, 2**16, 20
_BEGINS = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_ENDS = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


class CardError(ValueError):
    """The front matter is not what a card's can be."""


def front_matter(text: str) -> dict[str, Any] | None:
    """The front matter of a card, or None if it has none. Raises CardError."""
    match = _FRONT.match(text)
    if match is None:
        return None
    front = match[1]
    try:
        if len(front) > _MAX_FRONT:
            raise CardError(f"it is longer than {_MAX_FRONT:,} characters")
        _check_tokens(front)
        # Dates become text, and what JSON cannot say is refused.
        found = json.loads(json.dumps(yaml.safe_load(front) or {}, default=str, allow_nan=False))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as fault:
        raise CardError(str(fault) or type(fault).__name__) from fault
    if not isinstance(found, dict):
        raise CardError("it must be a list of names and values")
    return found


def _check_tokens(front: str) -> None:
    """Refuse what a few lines could waste any memory or time with: aliases of aliases, brackets in brackets."""
    depth = 0
    for token in yaml.scan(front):
        if isinstance(token, yaml.AliasToken):
            raise CardError("aliases (*name) are not allowed")
        depth += isinstance(token, _BEGINS) - isinstance(token, _ENDS)
        if depth > _MAX_DEPTH:
            raise CardError(f"it is nested deeper than {_MAX_DEPTH} levels")


def card(store: BlobStore, files: list[File]) -> dict[str, Any]:
    """The front matter of a commit's README.md; empty if there is none that can be read."""
    readme = next((file for file in files if file.path == README), None)
    if readme is None or readme.blob.size > _MAX_README:
        return {}
    return _read(store.path(readme.blob.sha256))


@lru_cache(maxsize=1000)
def _read(path: Path) -> dict[str, Any]:
    # By content: what is at a blob's path never changes.
    try:
        return front_matter(path.read_text("utf-8")) or {}
    except (OSError, ValueError):
        return {}


def tags(fields: dict[str, Any]) -> list[str]:
    """What a repository is found by: its tags, library, licence and data sets, in the Hub's spelling."""
    found = [str(tag) for tag in _many(fields.get("tags"))]
    for key in ("library_name", "pipeline_tag"):
        found += [str(value) for value in _many(fields.get(key))]
    for key, word in (("language", ""), ("datasets", "dataset:"), ("license", "license:")):
        found += [f"{word}{value}" for value in _many(fields.get(key))]
    return list(dict.fromkeys(found))


def _many(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
