"""The YAML block at the top of a model card: keys are added or replaced, everything else stays as a person wrote it.

Reading and writing it whole would lose comments and the way it is written, so only the lines of a changed key change.
"""

import re
from collections.abc import Mapping, Sequence

import yaml

_BLOCK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)

Value = str | Sequence[str]


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
    mapping, which is a person's to mend, or uses anchors that a changed key defined.
    """
    try:
        found = yaml.safe_load(block)
        if found is None:
            found = {}
        if not isinstance(found, dict):
            return None
        changes = {key: _plain(value) for key, value in wanted.items() if found.get(key) != _plain(value)}
        changes |= {key: _plain(value) for key, value in defaults.items() if found.get(key) is None}
        for key, value in changes.items():
            block = _set(block, key, value)
        return block if yaml.safe_load(block) == {**found, **changes} else None
    except yaml.YAMLError:
        return None


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
            kept = re.search(r"(?:^[ \t]*(?:#.*)?(?:\r?\n|\Z))*\Z", block[name.start_mark.index : end], re.MULTILINE)
            rest = kept[0] if kept else ""
            return block[: name.start_mark.index] + line + rest + block[end:]
    if block and not block.endswith("\n"):
        block += "\n"
    return block + line


def _dump(pairs: Mapping[str, object]) -> str:
    return str(yaml.safe_dump(pairs, sort_keys=False, allow_unicode=True, width=10_000))
