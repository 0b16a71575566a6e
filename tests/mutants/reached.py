"""Which cases run a function, and a changed function put in the place of the one that was imported.

Both spare work: a mutant is asked only the cases that run its function, in a process that has imported all the rest.
"""

import ast
import functools
import gc
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

from changes import Mutant

Place = tuple[str, int]
"""A file and the first line of a function."""
Tracer = Callable[[FrameType, str, Any], Any]
IMPORT = -1
"""Stands for a case: what runs when modules are imported."""


class Found(NamedTuple):
    """What a run of all cases showed.

    ``cases``: by function, the numbers of the cases that run it, and IMPORT. ``kept``: functions whose result may be
    kept for later cases, so that their own cases do not show all that depend on them. ``modules``: what was imported.
    """

    cases: dict[Place, set[int]]
    kept: set[Place]
    modules: list[str]


class Watch:
    """Notes which functions of a folder run."""

    def __init__(self, folder: Path) -> None:
        self.prefix, self.found, self.case = f"{folder}/", Found({}, set(), []), IMPORT
        self.caches: set[CodeType] = set()
        self.depth = self.imported = 0

    def begin(self) -> None:
        """Begin to watch."""
        threading.settrace(self._note)
        sys.settrace(self._note)

    def look_for_caches(self) -> None:
        """Find the functions whose results are kept, among what was imported since the last look."""
        if self.imported == len(sys.modules):
            return
        self.imported = len(sys.modules)
        for one in gc.get_objects():
            held = one.__wrapped__ if isinstance(one, functools._lru_cache_wrapper) else None
            held = one.func if isinstance(one, functools.cached_property) else held
            if isinstance(held, FunctionType) and held.__code__.co_filename.startswith(self.prefix):
                self.caches.add(held.__code__)

    def end(self) -> Found:
        """End, and return what was found."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        return self.found._replace(modules=[*sys.modules])

    def _note(self, frame: FrameType, _: str, __: object) -> "Tracer | None":
        """Note a function that begins. Only one whose result is kept is followed to its end."""
        code = frame.f_code
        if not code.co_filename.startswith(self.prefix):
            return None
        place = code.co_filename, code.co_firstlineno
        self.found.cases.setdefault(place, set()).add(self.case)
        if code not in self.caches:
            if self.depth:
                self.found.kept.add(place)
            return None
        self.found.kept.add(place)
        self.depth += 1
        frame.f_trace_lines = False
        return self._leave

    def _leave(self, _: FrameType, event: str, __: object) -> "Tracer":
        self.depth -= event == "return"
        return self._leave


def function_of(mutant: Mutant) -> ast.FunctionDef | None:
    """Return the outermost function whose body has a mutant, or None for what runs when the module is imported."""
    for node in _outermost(ast.parse(mutant.source)):
        if node.lineno < node.body[0].lineno <= mutant.line <= (node.end_lineno or 0):
            return node
    return None


def _outermost(node: ast.AST) -> Iterator[ast.FunctionDef]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.FunctionDef):
            yield inner
        else:
            yield from _outermost(inner)


def cases_of(node: ast.FunctionDef | None, path: Path, found: Found) -> set[int] | None:
    """Return the numbers of the cases that can show a change of a function; None if any case can."""
    if node is None:
        return None
    lines = range(_first(node), (node.end_lineno or 0) + 1)
    places = {place for place in found.cases if place[0] == str(path) and place[1] in lines}
    cases = set().union(*(found.cases[place] for place in places))
    return None if IMPORT in cases or places & found.kept else cases


def _first(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


Functions = dict[tuple[str, int, str], list[FunctionType]]


def functions_of(folder: Path) -> Functions:
    """Return the functions of a folder that are imported, by file, first line and name."""
    found: Functions = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename.startswith(f"{folder}/"):
            code = one.__code__
            found.setdefault((code.co_filename, code.co_firstlineno, code.co_name), []).append(one)
    return found


def exchange(mutant: Mutant, node: ast.FunctionDef, path: Path, functions: Functions) -> bool:
    """Give imported functions the changed code. Return False if none was found."""
    changed = next(_codes(compile(mutant.source, str(path), "exec"), node.name, _first(node)), None)
    held = functions.get((str(path), _first(node), node.name), [])
    if changed is None or any(one.__code__.co_freevars != changed.co_freevars for one in held):
        return False
    for one in held:
        one.__code__ = changed
    return bool(held)


def _codes(code: CodeType, name: str, line: int) -> Iterator[CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if (inner.co_name, inner.co_firstlineno) == (name, line):
                yield inner
            yield from _codes(inner, name, line)


def watched_cases(
    folder: Path, load: Callable[[], Any], ask: Callable[[Any, int], object], cases: Iterable[int]
) -> Found:
    """Return which functions cases run. ``load``: imports the reader; ``ask``: asks it one case."""
    watch = Watch(folder)
    watch.begin()
    reader = load()
    for case in cases:
        watch.look_for_caches()
        watch.case = case
        ask(reader, case)
    return watch.end()
