"""Names that differ only in numbers, on one line: ``model.layers.0-9.self_attn.q_proj.weight``."""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_Part = str | frozenset[int]


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    """Items with one label, such as ``layers.0-9.weight``."""

    label: str
    items: tuple[T, ...]


def collapse(items: Iterable[T], name: Callable[[T], str], likeness: Callable[[T], Hashable]) -> list[Group[T]]:
    """Join items of equal likeness whose names differ only in numbers between dots, in natural order.

    A label covers exactly its items: the lengths of its ranges multiply to their count.
    """
    groups = [(_parts(name(item)), likeness(item), [item]) for item in items]
    depth = max((len(parts) for parts, _, _ in groups), default=0)
    # From the last number to the first: experts within a layer are joined before layers are.
    for place in reversed(range(depth)):
        joined: dict[Hashable, tuple[tuple[_Part, ...], Hashable, list[T]]] = {}
        for parts, like, members in groups:
            here = parts[place] if place < len(parts) else ""
            if isinstance(here, str):
                joined[parts, like] = (parts, like, members)
                continue
            key = (parts[:place], None, parts[place + 1 :], like)
            before = joined.get(key, (parts, like, []))
            numbers = here | before[0][place]  # type: ignore[operator]
            joined[key] = ((*parts[:place], numbers, *parts[place + 1 :]), like, before[2] + members)
        groups = list(joined.values())
    groups.sort(key=lambda group: natural(_label(group[0])))
    return [Group(_label(parts), tuple(members)) for parts, _, members in groups]


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts ``layers.2`` before ``layers.10``."""
    return [(0, int(part), "") if _number(part) else (1, 0, part) for part in re.split("[-.,]", name)]


def _number(text: str) -> bool:
    # At most nine digits without a leading zero, so that the number determines the text.
    return text.isascii() and text.isdigit() and len(text) < 10 and (text == "0" or text[0] != "0")


def _parts(name: str) -> tuple[_Part, ...]:
    return tuple(frozenset((int(part),)) if _number(part) else part for part in name.split("."))


def _label(parts: tuple[_Part, ...]) -> str:
    return ".".join(part if isinstance(part, str) else _ranges(sorted(part)) for part in parts)


def _ranges(numbers: list[int]) -> str:
    """Return ``[0, 1, 2, 5]`` as ``0-2,5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
