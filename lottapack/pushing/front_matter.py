"""The YAML block at the top of a model card: add or replace keys, and keep everything else as a person wrote it.

Parsing and writing the whole block would lose comments and style, so only the lines of a changed key change. The
text is
untrusted: if a parser cannot read it for any reason, or if it uses aliases, by which a short text can expand without
end, it is left as it is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_BLOCK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)

Value = str | Sequence[str] | Sequence[Mapping[str, Any]]
_MOST = 100_000
"""The most characters of a block that is parsed; the parser takes up to three seconds for that."""


def split(card: str) -> tuple[str | None, str]:
    """Return the text between the two lines of dashes, and the body below; None if the card does not have a block."""
    match = _BLOCK.match(card)
    return (match[1], card[match.end() :]) if match else (None, card)


def join(block: str, body: str) -> str:
    """Return a card from a block and a body, with the body's kind of line ends."""
    if block and not block.endswith("\n"):
        block += "\n"
    top = f"---\n{block}---\n"
    return (top.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in body else top) + body


def merged(block: str, wanted: Mapping[str, Value], defaults: Mapping[str, Value]) -> str | None:
    """Return the block with ``wanted`` keys set, and ``defaults`` added for missing keys.

    A key that already has the value is not touched. Returns None if the block cannot be edited that way: it is not a
    YAML mapping, which a person must repair, or uses anchors, or is longer than any that people write.
    """
    try:
        current = _parsed(block)
        if not isinstance(current, dict):
            return None
        changes = {key: _plain(value) for key, value in wanted.items() if current.get(key) != _plain(value)}
        changes |= {key: _plain(value) for key, value in defaults.items() if current.get(key) is None}
        if not changes:
            return block
        for key, value in changes.items():
            block = _set(block, key, value)
        return block if _parsed(block) == {**current, **changes} else None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the text stays, whatever the error
        return None


def _parsed(block: str) -> object:
    """Return the parsed block. Raises ValueError for aliases and length, and whatever the parser raises."""
    if len(block) > _MOST:
        raise ValueError("too long")
    if "*" in block and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block, Loader=yaml.SafeLoader)):
        raise ValueError("an alias")
    parsed = yaml.safe_load(block)
    return {} if parsed is None else parsed


def _plain(value: Value) -> str | list[Any]:
    return value if isinstance(value, str) else list(value)


def _set(block: str, key: str, value: str | list[Any]) -> str:
    line = _dump({key: value})
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        return _dump({**yaml.safe_load(block), key: value})
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for number, (name, _) in enumerate(pairs):
        if name.value == key:
            # Up to the next key's line; comments in between belong to that key.
            end = pairs[number + 1][0].start_mark.index if number + 1 < len(pairs) else len(block)
            return block[: name.start_mark.index] + line + _comments(block[name.start_mark.index : end]) + block[end:]
    if block and not block.endswith("\n"):
        block += "\n"
    return block + line


def _comments(text: str) -> str:
    """Return the empty lines and comments at the end of a text."""
    lines = text.splitlines(keepends=True)
    start = len(lines)
    while start and (not lines[start - 1].strip() or lines[start - 1].lstrip().startswith("#")):
        start -= 1
    return "".join(lines[start:])


def _dump(pairs: Mapping[str, object]) -> str:
    return str(yaml.safe_dump(pairs, sort_keys=False, allow_unicode=True, width=10_000))
