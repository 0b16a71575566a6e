"""Model cards: read the YAML at the beginning of a README.md as JSON.

Anyone who may write can commit any text, and everyone reads what becomes of it. So a card is parsed once, at its
commit; the cost of parsing is limited in advance; and the result is valid JSON in UTF-8, or is not stored.
"""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import yaml

Fields = dict[str, Any]

README = "README.md"
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_MAX_README, _MAX_FRONT, _MAX_DEPTH, _MAX_NODES = 2**20, 2**16, 20, 10_000
_MAX_TAGS, _MAX_TAG = 100, 200
_MAX_INT = 2**63


class CardError(ValueError):
    """The front matter is not valid for a card."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader in Python, with limits (libyaml's loader overflows its stack on nested brackets)."""

    def __init__(self, front: str) -> None:
        super().__init__(front)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one value. Raises CardError for values with which a few lines could waste any memory or time."""
        if self.check_event(yaml.AliasEvent):
            raise CardError("aliases (*name) are not allowed")
        self._nodes += 1
        self._depth += 1
        if self._nodes > _MAX_NODES:
            raise CardError(f"it has more than {_MAX_NODES:,} values")
        if self._depth > _MAX_DEPTH:
            raise CardError(f"it is nested deeper than {_MAX_DEPTH} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
"""Dates stay text: JSON does not have dates, and 2024-13-45 would otherwise make the whole card invalid."""


def front_matter(text: str) -> Fields | None:
    """Return the front matter of a card, or None without one. Raises CardError."""
    match = _FRONT.match(text)
    if match is None:
        return None
    if len(match[1]) > _MAX_FRONT:
        raise CardError(f"it is longer than {_MAX_FRONT:,} characters")
    fields = _plain(_load(match[1]) or {})
    if not isinstance(fields, dict):
        raise CardError("it must be a mapping of names to values")
    return fields


def body(text: str) -> str:
    """Return the text of a card below its front matter."""
    match = _FRONT.match(text)
    return text[match.end() :] if match else text


def _load(front: str) -> Any:
    """Return the content of a front matter in the parser's objects. Raises CardError."""
    try:
        loader = _Loader(front)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except Exception as fault:
        # PyYAML lets through what its constructors raise: KeyError, IndexError, AttributeError, OverflowError and
        # others.
        raise CardError(" ".join(str(fault).split())[:500] or type(fault).__name__) from fault


def _plain(value: Any) -> Any:
    """Return the value as portable JSON. Raises CardError for what JSON, UTF-8 or 64 bits cannot represent."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_text)
        text.encode("utf-8")
        return json.loads(text, parse_int=_integer)
    except (TypeError, ValueError, RecursionError) as fault:
        raise CardError(str(fault) or type(fault).__name__) from fault


def _text(value: object) -> object:
    """Return a JSON value for a value that JSON does not have."""
    if isinstance(value, set):
        return sorted(map(str, value))
    if isinstance(value, bytes):
        raise CardError("it contains binary data")
    return str(value)


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -_MAX_INT <= int(digits) < _MAX_INT:
        raise CardError("it contains an integer of more than 64 bits")
    return int(digits)


def of_file(path: Path) -> Fields:
    """Return the front matter of a README.md on disk; empty if it is missing or not valid."""
    try:
        if path.stat().st_size > _MAX_README:
            return {}
        return front_matter(path.read_text("utf-8")) or {}
    except (OSError, ValueError):
        return {}


def tags(fields: Fields) -> list[str]:
    """Return the tags by which a repository is found: tags, library, licence and data sets, in the Hub's spelling."""
    labels = [str(tag) for tag in _many(fields.get("tags"))]
    for key in ("library_name", "pipeline_tag"):
        labels += [str(value) for value in _many(fields.get(key))]
    for key, word in (("language", ""), ("datasets", "dataset:"), ("license", "license:")):
        labels += [f"{word}{value}" for value in _many(fields.get(key))]
    return [tag for tag in dict.fromkeys(labels) if 0 < len(tag) <= _MAX_TAG][:_MAX_TAGS]


def brief(fields: Fields) -> Fields:
    """Return what every listing shows of a card."""
    names = {key: fields.get(key) for key in ("library_name", "pipeline_tag")}
    short = {key: value for key, value in names.items() if isinstance(value, str) and len(value) <= _MAX_TAG}
    return {"tags": tags(fields), **short}


def keep(db: sqlite3.Connection, sha256: str, path: Path) -> None:
    """Parse the README.md with that hash, unless this was done before, and store it in the index."""
    if db.execute("SELECT 1 FROM cards WHERE sha256 = ?", (sha256,)).fetchone():
        return
    fields = of_file(path)
    db.execute("INSERT INTO cards VALUES (?, ?, ?)", (sha256, json.dumps(fields), json.dumps(brief(fields))))


def kept(db: sqlite3.Connection, sha256: str | None, *, whole: bool) -> Fields:
    """Return the front matter of the README.md with that hash; without ``whole`` only what every listing shows."""
    row = db.execute(f"SELECT {'fields' if whole else 'brief'} FROM cards WHERE sha256 = ?", (sha256,)).fetchone()
    fields: Fields = json.loads(row[0]) if row else {}
    return fields


def _many(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
