"""Small changes of a reader's source, one rule each: comparisons, limits, conditions, refusals that are left out."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Mutant(NamedTuple):
    """A changed module. ``key``: the same for as long as the line is the same; ``line``: its number."""

    module: str
    key: str
    line: int
    source: str


FLIPS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "===": "!==",
    "!==": "===",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "and": "or",
    "or": "and",
}
_SCRIPT = re.compile(
    r"""(?P<skip>//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`"""
    r"""|(?<=[(,=:\[!&|?{};]\s)/(?![/*])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*"""
    r"""|(?<=[(,=:\[!&|?{};])/(?![/*])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*)""",
    re.DOTALL,
)
_OPERATOR = re.compile(r"(?<= )(<=|>=|<|>|===|!==|&&|\|\|)(?= )")
_NUMBER = re.compile(r"(?<![\w.])(\d[\d_]*)(n?)(?![\w.])")
_DROPPED = re.compile(r"\b(out\.add|add|throw refuse|refuse|throw new \w+|found\.set)(?=\()")


def mutants(module: str, source: str) -> list[Mutant]:
    """Return the mutants of a module, given by its file name."""
    found = _of_script(source) if module.endswith(".js") else _of_python(source)
    lines = source.split("\n")
    made: list[Mutant] = []
    seen: dict[str, int] = {}
    for begin, end, new, what in found:
        number = source.count("\n", 0, begin)
        key = f"{lines[number].strip()} :: {what}"
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            key += f" #{seen[key]}"
        made.append(Mutant(module, key, number + 1, source[:begin] + new + source[end:]))
    return made


Change = tuple[int, int, str, str]
"""Where a change begins and ends, the new text, and what it is."""


def _of_script(source: str) -> Iterator[Change]:
    masked = _SCRIPT.sub(lambda match: " " * 0 + "\x00" * len(match[0]), source)
    masked = re.sub(r"^(import|export \{).*$", lambda match: "\x00" * len(match[0]), masked, flags=re.MULTILINE)
    for match in _OPERATOR.finditer(masked):
        yield match.start(), match.end(), FLIPS[match[0]], f"{match[0]} to {FLIPS[match[0]]}"
    for match in _NUMBER.finditer(masked):
        line = masked[masked.rfind("\n", 0, match.start()) + 1 : (masked + "\n").find("\n", match.end())]
        if re.match(r"(export )?const [A-Z_]+ = ", line) or _OPERATOR.search(line):
            value = int(match[1].replace("_", ""))
            for other in {value + 1, max(value - 1, 0)} - {value}:
                yield match.start(), match.end(), f"{other}{match[2]}", f"{match[0]} to {other}"
    for match in _DROPPED.finditer(masked):
        if masked[: match.start()].endswith(("function ", "const ")) or masked[match.start() - 1] == ".":
            continue
        new = "void (() => {})" if match[0].startswith("throw") else "(() => {})"
        yield match.start(), match.end(), new, f"without {match[0]}"
    for match in re.finditer(r"\bif \(", masked):
        begin = match.end()
        depth, end = 1, begin
        while depth:
            depth += {"(": 1, ")": -1}.get(masked[end], 0)
            end += 1
        for value in ("false", "true"):
            yield begin, end - 1, value, f"if ({value})"


class _Places:
    """Offsets of nodes in a source."""

    def __init__(self, source: str) -> None:
        self.source, self.data, self.starts = source, source.encode(), [0]
        for line in self.data.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)

    def at(self, line: int, column: int) -> int:
        return len(self.data[: self.starts[line - 1] + column].decode())

    def span(self, node: ast.expr) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno or 0, node.end_col_offset or 0)

    def between(self, left: ast.expr, right: ast.expr, pattern: str) -> Iterator[Change]:
        """Yield the flip of the operator between two operands."""
        begin, end = self.span(left)[1], self.span(right)[0]
        match = re.search(pattern, self.source[begin:end])
        if match:
            new = FLIPS[match[0]]
            yield begin + match.start(), begin + match.end(), new, f"{match[0]} to {new}"

    def numbers(self, node: ast.AST) -> Iterator[Change]:
        """Yield changes by one of the integers in an expression."""
        for one in ast.walk(node):
            if isinstance(one, ast.Constant) and isinstance(one.value, int) and not isinstance(one.value, bool):
                for other in (one.value + 1, one.value - 1):
                    yield *self.span(one), str(other), f"{one.value} to {other}"


def _of_python(source: str) -> Iterator[Change]:
    places = _Places(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            for left, right in pairwise([node.left, *node.comparators]):
                yield from places.between(left, right, r"(?<=[ )])(<=|>=|<|>|==|!=)(?=[ (])")
            yield from places.numbers(node)
        elif isinstance(node, ast.BoolOp):
            for left, right in pairwise(node.values):
                yield from places.between(left, right, r"\b(and|or)\b")
        elif isinstance(node, ast.If | ast.IfExp):
            for value in ("False", "True"):
                yield *places.span(node.test), value, f"if {value}"
        elif isinstance(node, ast.Assign):
            if isinstance(node.targets[0], ast.Name) and node.targets[0].id.strip("_").isupper():
                yield from places.numbers(node.value)
        elif isinstance(node, ast.Expr) and ast.unparse(node.value).startswith(("out.add(", "self.add(")):
            yield *places.span(node.value), "None", "without the refusal"
