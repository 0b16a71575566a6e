"""Arguments of a call as JSON: what they may be, and the Python values that they stand for (spec: architectures, 3).

Nothing here imports anything: classes are resolved by whoever decodes.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from lottapack.errors import ArchitectureError, Problem
from lottapack.strict_json.text import JsonText

MAX_ARGUMENT_DEPTH = 16
MAX_ARGUMENT_NODES = 10_000
_MOST_PROBLEMS = 1000
MAX_PATH = 512
CLASS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*:[A-Za-z][A-Za-z0-9_]*")
"""``package.module:Class``, no part of which begins with an underscore."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {"class", "tuple"}
_CLASS, _TUPLE = {"class", "config"}, {"tuple"}


def path_problems(where: str, path: str) -> list[Problem]:
    """What is wrong with an import path."""
    if len(path) <= MAX_PATH and CLASS_PATH.fullmatch(path):
        return []
    return [Problem("architecture", where, 'should be of the form "package.module:Class", without leading underscores')]


def argument_problems(where: str, config: JsonText, refused: Callable[[str], bool] | None) -> list[Problem]:
    """Everything wrong with keyword arguments. ``config``: an object.

    ``refused``: which keys may be nowhere, in a family without classes as arguments; None where there may be classes.
    """
    return _Check(refused).run(where, config)


class _Check:
    """Goes through arguments, outer ones first, and notes what is wrong."""

    def __init__(self, refused: Callable[[str], bool] | None) -> None:
        self.refused = refused
        self.problems: list[Problem] = []
        self.count = 0
        self.pending: deque[tuple[str, JsonText, int]] = deque()
        """Objects and arrays whose values have been counted, but not looked into."""

    def run(self, where: str, config: JsonText) -> list[Problem]:
        try:
            self.names(where, config)
            self.fields(where, config, 1)
            while self.pending:
                self.inside(*self.pending.popleft())
        except _TooManyError as fault:
            limit = f"at most {MAX_ARGUMENT_DEPTH} levels and {MAX_ARGUMENT_NODES:,} values"
            self.add(str(fault), f"the arguments are too large: {limit}")
        return self.problems

    def add(self, where: str, message: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem("architecture", where, message))

    def names(self, where: str, given: JsonText) -> None:
        for name, _ in given.members():
            if not _NAME.fullmatch(name) and not (self.refused and self.refused(name)):
                self.add(f"{where}.{name}", "is not the name of an argument")

    def fields(self, where: str, given: JsonText, depth: int) -> None:
        for key, _ in given.members() if self.refused else ():
            if self.refused and self.refused(key):
                self.add(f"{where}.{key}", "a pack cannot set this argument")
        for key, value in given.members():
            self.look(where, f".{key}", value, depth)

    def items(self, where: str, given: JsonText, depth: int) -> None:
        for index, item in enumerate(given.items()):
            self.look(where, f"[{index}]", item, depth + 1)

    def look(self, where: str, step: str, value: JsonText, depth: int) -> None:
        """Count a value, and note it down if there is anything in it."""
        self.count += 1
        if depth > MAX_ARGUMENT_DEPTH or self.count > MAX_ARGUMENT_NODES:
            raise _TooManyError(where + step)
        if (value.is_object or value.is_array) and len(value) > len("[]"):
            self.pending.append((where + step, value, depth))

    def inside(self, where: str, value: JsonText, depth: int) -> None:
        if value.is_array:
            self.items(where, value, depth)
            return
        held = dict(islice(value.members(), 3))
        if held.keys() == _TUPLE and held["tuple"].is_array:
            self.items(f"{where}.tuple", held["tuple"], depth)
        elif self.refused is None and held.keys() == _CLASS and held["class"].is_string and held["config"].is_object:
            self.problems += path_problems(f"{where}.class", held["class"].value())
            self.names(f"{where}.config", held["config"])
            self.fields(f"{where}.config", held["config"], depth + 1)
        elif any(key in _RESERVED for key, _ in value.members()):
            forms = '{"tuple": [...]}' + ("" if self.refused else ' and {"class": "...", "config": {...}}')
            self.add(where, f"only {forms} may have the keys tuple and class")
        else:
            self.fields(where, value, depth + 1)


class _TooManyError(Exception):
    """There are too many values, or they are too deep, at the place that it names."""


def _is_class(value: dict[str, Any]) -> bool:
    return set(value) == _CLASS and isinstance(value["class"], str) and isinstance(value["config"], dict)


def class_paths(config: Any) -> Iterator[str]:
    """Every class that checked arguments name, however deep."""
    if isinstance(config, list):
        for item in config:
            yield from class_paths(item)
    elif isinstance(config, dict):
        if _is_class(config):
            yield config["class"]
        for item in config.values():
            yield from class_paths(item)


def encode(where: str, value: Any) -> Any:
    """The JSON of an argument given in Python. Raises ArchitectureError for what is not data."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return {"tuple": [encode(f"{where}[{index}]", item) for index, item in enumerate(value)]}
    if isinstance(value, list):
        return [encode(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: encode(f"{where}.{key}", item) for key, item in value.items()}
    raise ArchitectureError(
        f"the argument {where}={value!r} cannot be described as data",
        hint="Arguments are numbers, booleans, strings, None, lists, tuples and dicts of these; an object is written "
        'as {"class": "package.module:Class", "config": {...}}.',
    )


def decode(value: Any, make: Callable[[str, dict[str, Any]], Any]) -> Any:
    """The Python value of a checked argument. ``make``: builds an object from a class path and decoded arguments."""
    if isinstance(value, list):
        return [decode(item, make) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == _TUPLE:
        return tuple(decode(item, make) for item in value["tuple"])
    if _is_class(value):
        return make(value["class"], {name: decode(item, make) for name, item in value["config"].items()})
    return {name: decode(item, make) for name, item in value.items()}
