"""Small changes of a reader's source, one rule each: comparisons, limits, conditions, arithmetic, refusals left out."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Mutant(NamedTuple):
    """A changed module.

    ``key``: the same for as long as the line is the same. ``line``: its number. ``within``: the function, in Python.
    """

    module: str
    key: str
    line: int
    within: str
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
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "//": "*",
    "%": "+",
    "<<": ">>",
    ">>": "<<",
    ">>>": "<<",
    "&": "|",
    "|": "&",
    "^": "|",
}
_SCRIPT = re.compile(
    r"""(?P<skip>//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`"""
    r"""|(?<=[(,=:\[!&|?{};]\s)/(?![/*])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*"""
    r"""|(?<=[(,=:\[!&|?{};])/(?![/*])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*)""",
    re.DOTALL,
)
_OPERATOR = re.compile(r"(?<= )(<=|>=|<|>|===|!==|&&|\|\|)(?= )")
_ARITHMETIC = re.compile(r"(?<= )(\+|-|\*|/|%|<<|>>|>>>|&|\||\^)=?(?= )")
_NUMBER = re.compile(r"(?<![\w.])(0x[0-9a-fA-F_]+|\d[\d_]*)(n?)(?![\w.])")
_DROPPED = re.compile(r"\b(out\.add|add|throw refuse|refuse|throw new \w+|found\.set)(?=\()")


def mutants(module: str, source: str, *, of_bits: bool = False) -> list[Mutant]:
    """Return the mutants of a module, given by its file name. ``of_bits``: change all arithmetic and numbers too."""
    found = _of_script(source, of_bits) if module.endswith(".js") else _of_python(source, of_bits)
    lines = source.split("\n")
    functions = {} if module.endswith(".js") else _functions(source)
    made: list[Mutant] = []
    seen: dict[str, int] = {}
    for begin, end, new, what in found:
        number = source.count("\n", 0, begin)
        key = f"{lines[number].strip()} :: {what}"
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            key += f" #{seen[key]}"
        within = functions.get(number + 1, "")
        made.append(Mutant(module, key, number + 1, within, source[:begin] + new + source[end:]))
    return made


def _functions(source: str) -> dict[int, str]:
    """Return the innermost function of each line."""
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(source)):  # outer ones first
        if isinstance(node, ast.FunctionDef):
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), node.name)
    return found


Change = tuple[int, int, str, str]
"""Where a change begins and ends, the new text, and what it is."""


def _of_script(source: str, of_bits: bool) -> Iterator[Change]:
    masked = _SCRIPT.sub(lambda match: "\x00" * len(match[0]), source)
    masked = re.sub(r"^(import|export \{).*$", lambda match: "\x00" * len(match[0]), masked, flags=re.MULTILINE)
    for match in _OPERATOR.finditer(masked):
        yield match.start(), match.end(), FLIPS[match[0]], f"{match[0]} to {FLIPS[match[0]]}"
    for match in _ARITHMETIC.finditer(masked) if of_bits else ():
        yield match.start(1), match.end(1), FLIPS[match[1]], f"{match[0]} to {FLIPS[match[1]]}"
    for match in _NUMBER.finditer(masked):
        line = masked[masked.rfind("\n", 0, match.start()) + 1 : (masked + "\n").find("\n", match.end())]
        if of_bits or re.match(r"(export )?const [A-Z_]+ = ", line) or _OPERATOR.search(line):
            value = int(match[1].replace("_", ""), 0)
            for other in sorted({value + 1, max(value - 1, 0)} - {value}):
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

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
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
                written = self.source[slice(*self.span(one))]
                for other in (one.value + 1, one.value - 1):
                    yield *self.span(one), str(other), f"{written} to {other}"


_REFUSALS = ("out.add(", "self.add(", "out.known(", "out.hexadecimal(", "problems.append(")


def _computing(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that run: none of annotations, messages, docstrings or imports for types alone."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            pending += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, ast.AST)]


def _of_python(source: str, of_bits: bool) -> Iterator[Change]:
    places = _Places(source)
    made: set[tuple[int, int, str]] = set()
    kinds = (_of_conditions, _of_statements, _of_arithmetic)[: 3 if of_bits else 2]
    changes = (change for node in _computing(ast.parse(source)) for kind in kinds for change in kind(places, node))
    for change in sorted(changes):
        if change[:3] not in made:
            made.add(change[:3])
            yield change


def _of_conditions(places: _Places, node: ast.AST) -> Iterator[Change]:
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


def _of_statements(places: _Places, node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if node.value and isinstance(target, ast.Name) and target.id.strip("_").isupper():
            yield from places.numbers(node.value)
    elif isinstance(node, ast.Raise):
        yield *places.span(node), "pass", "without raise"
    elif isinstance(node, ast.Expr) and ast.unparse(node.value).startswith(_REFUSALS):
        yield *places.span(node.value), "None", "without the refusal"


def _of_arithmetic(places: _Places, node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.BinOp):
        yield from places.between(node.left, node.right, r"(?<=[ )])(\+|-|\*|//|/|%|<<|>>|&|\||\^)(?=[ (])")
        yield from places.numbers(node)
    elif isinstance(node, ast.Subscript | ast.AugAssign | ast.For):
        part = node.slice if isinstance(node, ast.Subscript) else node.iter if isinstance(node, ast.For) else node
        yield from places.numbers(part)
