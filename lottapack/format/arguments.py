"""Arguments of a call as JSON: their rules, and their Python values (spec: architectures, section 3).

This module does not import the named classes; the caller of decode() resolves them.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from types import FunctionType
from typing import Any

from lottapack.errors import ArchitectureError, Problem
from lottapack.strict_json.text import JsonText

MAX_ARGUMENT_DEPTH = 16
MAX_ARGUMENT_NODES = 10_000
_MOST_PROBLEMS = 1000
MAX_PATH = 512
CLASS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*:[A-Za-z][A-Za-z0-9_]*")
"""``package.module:Class``, where no part begins with an underscore."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {"class", "tuple"}
_CLASS, _ITSELF, _TUPLE = {"class", "config"}, {"class"}, {"tuple"}


def path_problems(where: str, path: str) -> list[Problem]:
    """Return what is wrong with an import path."""
    if len(path) <= MAX_PATH and CLASS_PATH.fullmatch(path):
        return []
    return [Problem("architecture", where, 'should have the form "package.module:Class", without leading underscores')]


def argument_problems(where: str, config: JsonText, refused: Callable[[str], bool] | None) -> list[Problem]:
    """Return everything wrong with keyword arguments. ``config``: an object.

    ``refused``: whether a key is forbidden, for a family whose arguments cannot be classes; None if they can.
    """
    return _Check(refused).run(where, config)


class _Check:
    """Checks arguments, outer ones first, and collects the problems."""

    def __init__(self, refused: Callable[[str], bool] | None) -> None:
        self.refused = refused
        self.problems: list[Problem] = []
        self.count = 0
        self.pending: deque[tuple[str, JsonText, int]] = deque()
        """Objects and arrays that were counted but not checked yet."""

    def run(self, where: str, config: JsonText) -> list[Problem]:
        try:
            self.names(where, config)
            self.fields(where, config, 1)
            while self.pending:
                self.inside(*self.pending.popleft())
        except _TooManyError as fault:
            limit = f"at most {MAX_ARGUMENT_DEPTH} levels and {MAX_ARGUMENT_NODES:,} values"
            self.add(str(fault), f"the arguments are too large; the format allows {limit}")
        return self.problems

    def add(self, where: str, message: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem("architecture", where, message))

    def names(self, where: str, given: JsonText) -> None:
        for name, _ in given.members():
            if not _NAME.fullmatch(name) and not (self.refused and self.refused(name)):
                self.add(f"{where}.{name}", "is not a valid argument name")

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
        """Count a value, and schedule it for a check if it is not empty."""
        self.count += 1
        if depth > MAX_ARGUMENT_DEPTH or self.count > MAX_ARGUMENT_NODES:
            raise _TooManyError(where + step)
        if (value.is_object or value.is_array) and len(value) > len("[]"):
            self.pending.append((where + step, value, depth))

    def inside(self, where: str, value: JsonText, depth: int) -> None:
        if value.is_array:
            self.items(where, value, depth)
            return
        members = dict(islice(value.members(), 3))
        if members.keys() == _TUPLE and members["tuple"].is_array:
            self.items(f"{where}.tuple", members["tuple"], depth)
        elif (
            self.refused is None
            and members.keys() == _CLASS
            and members["class"].is_string
            and members["config"].is_object
        ):
            self.problems += path_problems(f"{where}.class", members["class"].value())
            self.names(f"{where}.config", members["config"])
            self.fields(f"{where}.config", members["config"], depth + 1)
        elif self.refused is None and members.keys() == _ITSELF and members["class"].is_string:
            self.problems += path_problems(f"{where}.class", members["class"].value())
        elif any(key in _RESERVED for key, _ in value.members()):
            others = ', {"class": "..."} and {"class": "...", "config": {...}}'
            forms = '{"tuple": [...]}' + ("" if self.refused else others)
            self.add(where, f"only {forms} may have the keys tuple and class")
        else:
            self.fields(where, value, depth + 1)


class _TooManyError(Exception):
    """There are too many values, or they are too deep; the message is their location."""


def _is_class(value: dict[str, Any]) -> bool:
    return set(value) == _CLASS and isinstance(value["class"], str) and isinstance(value["config"], dict)


def _is_itself(value: dict[str, Any]) -> bool:
    return set(value) == _ITSELF and isinstance(value["class"], str)


def class_paths(config: Any) -> Iterator[str]:
    """Yield every class, and every function, that checked arguments name, at any depth."""
    if isinstance(config, list):
        for item in config:
            yield from class_paths(item)
    elif isinstance(config, dict):
        if _is_class(config) or _is_itself(config):
            yield config["class"]
        for item in config.values():
            yield from class_paths(item)


def encode(where: str, value: Any) -> Any:
    """Return the JSON of a Python argument. Raises ArchitectureError for values that are not plain data."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return {"tuple": [encode(f"{where}[{index}]", item) for index, item in enumerate(value)]}
    if isinstance(value, list):
        return [encode(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, type | FunctionType) and CLASS_PATH.fullmatch(f"{value.__module__}:{value.__qualname__}"):
        return {"class": f"{value.__module__}:{value.__qualname__}"}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: encode(f"{where}.{key}", item) for key, item in value.items()}
    raise ArchitectureError(
        f"the argument {where}={value!r} cannot be described as data",
        hint="Pass numbers, booleans, strings, None, lists, tuples or dicts of these, or classes and functions of a "
        'module; write an object as {"class": "package.module:Class", "config": {...}}.',
    )


def decode(value: Any, make: Callable[[str, dict[str, Any]], Any], find: Callable[[str], Any]) -> Any:
    """Return the Python value of a checked argument.

    ``make``: builds an object from a class path and its arguments. ``find``: returns the class or function at a path.
    """
    if isinstance(value, list):
        return [decode(item, make, find) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == _TUPLE:
        return tuple(decode(item, make, find) for item in value["tuple"])
    if _is_class(value):
        return make(value["class"], {name: decode(item, make, find) for name, item in value["config"].items()})
    if _is_itself(value):
        return find(value["class"])
    return {name: decode(item, make, find) for name, item in value.items()}
