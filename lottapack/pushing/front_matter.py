"""The YAML block at the top of a model card: keys are added or replaced, everything else stays as a person wrote it.

Reading and writing it whole would lose comments and the way it is written, so only the lines of a changed key change.
The text is a stranger's: what a parser cannot read, for whatever reason, and what names anything twice (aliases, by
which a short text becomes an endless one), is left as it is.
"""

import re
from collections.abc import Mapping, Sequence

import yaml

_BLOCK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)

Value = str | Sequence[str]
_MOST = 100_000
"""Characters of the longest block that is read: the parser takes up to three seconds for that."""


def split(card: str) -> tuple[str | None, str]:
    """The text between the two lines of dashes, and the body below; None if the card has no such block."""
    found = _BLOCK.match(card)
    return (found[1], card[found.end() :]) if found else (None, card)


def join(block: str, body: str) -> str:
    """A card of a block and a body, with the body's kind of line ends."""
    if block and not block.endswith("\n"):
        block += "\n"
    top = f"---\n{block}---\n"
    return (top.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in body else top) + body


def merged(block: str, wanted: Mapping[str, Value], defaults: Mapping[str, Value]) -> str | None:
    """The block with ``wanted`` keys set and ``defaults`` added where there is no such key.

    A key that has the value already is not touched. None if the block cannot be kept whole that way: it is no YAML
    mapping, which is a person's to mend, or uses anchors, or is longer than any that people write.
    """
    try:
        found = _parsed(block)
        if not isinstance(found, dict):
            return None
        changes = {key: _plain(value) for key, value in wanted.items() if found.get(key) != _plain(value)}
        changes |= {key: _plain(value) for key, value in defaults.items() if found.get(key) is None}
        if not changes:
            return block
        for key, value in changes.items():
            block = _set(block, key, value)
        return block if _parsed(block) == {**found, **changes} else None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the text stays
        return None


def _parsed(block: str) -> object:
    """What a block says. Raises ValueError for aliases and length, and whatever the parser raises."""
    if len(block) > _MOST:
        raise ValueError("too long")
    if "*" in block and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block, Loader=yaml.SafeLoader)):
        raise ValueError("an alias")
    found = yaml.safe_load(block)
    return {} if found is None else found


def _plain(value: Value) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


def _set(block: str, key: str, value: str | list[str]) -> str:
    line = _dump({key: value})
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        return _dump({**yaml.safe_load(block), key: value})
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    for number, (name, _) in enumerate(pairs):
        if name.value == key:
            # To the next key's line; comments between the two belong to that one.
            end = pairs[number + 1][0].start_mark.index if number + 1 < len(pairs) else len(block)
            return block[: name.start_mark.index] + line + _comments(block[name.start_mark.index : end]) + block[end:]
    if block and not block.endswith("\n"):
        block += "\n"
    return block + line


def _comments(text: str) -> str:
    """The empty lines and comments at the end of a text."""
    lines = text.splitlines(keepends=True)
    start = len(lines)
    while start and (not lines[start - 1].strip() or lines[start - 1].lstrip().startswith("#")):
        start -= 1
    return "".join(lines[start:])


def _dump(pairs: Mapping[str, object]) -> str:
    return str(yaml.safe_dump(pairs, sort_keys=False, allow_unicode=True, width=10_000))
