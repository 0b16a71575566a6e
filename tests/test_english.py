"""The rules of CONTRIBUTING.md on prose, messages and docstrings that a test can hold."""

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

from test_house import parse

ROOT = Path(__file__).parents[1]
FOLDERS = (".github", "benchmarks", "docs", "examples", "spec", "tests")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for paths in (ROOT.glob("*.md"), *((ROOT / folder).rglob("*.md") for folder in FOLDERS))
    for path in sorted(paths)
}
WIDTH, WORDS = 100, 40

BANNED = (
    r"\b(is|are|was|were|be) no (?!longer\b|more than\b|larger\b)",
    r"\b(has|have) not (a|an|the|this|that)\b",
    r"\b(is|are) what\b",
    r"\bthat (is|are) (asked for|none)\b",
    r"\bfor ever\b",
    r"\bof which (no|none|any|nothing)\b",
)
"""Negated nouns, and clauses that hide the subject: negate the verb and say who does what."""

QUESTION = re.compile(r"(what|how|where|when|why|which|who)\b", re.IGNORECASE)
RECORDS = "spec/decisions/"
"""Titles of decisions are what was decided, so they may be sentences."""


def prose(text: str) -> list[str]:
    """Return the lines outside code, without the targets of links."""
    text = re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"\]\([^)]*\)", "]", line) for line in text.splitlines()]


def long_lines(text: str) -> list[str]:
    """Return lines of prose over WIDTH characters that can be wrapped."""
    lines = [line for line in prose(text) if not line.startswith(("|", "!["))]
    return [line for line in lines if len(line) > WIDTH and " " in line.strip("-> ")]


def sentences(text: str) -> list[str]:
    """Return the sentences outside code, tables and headings. A list item starts a sentence."""
    lines = [line for line in prose(text) if not line.startswith(("|", "#", "!["))]
    blocks = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", "\n".join(lines))
    return [
        " ".join(part.split()) for block in blocks for part in re.split(r"(?<=[.!?:;])[*)]*\s+", block) if part.strip()
    ]


def banned(text: str) -> list[str]:
    """Return forbidden phrases with their context. Quoted words and code do not count."""
    whole = re.sub(r"`[^`]*`|\"[^\"]*\"", "``", " ".join(" ".join(prose(text)).split()))
    found = [match for pattern in BANNED for match in re.finditer(pattern, whole)]
    return [whole[max(0, match.start() - 30) : match.end() + 30] for match in found]


def headings(text: str) -> list[str]:
    """Return the words of the headings, without numbers."""
    return [re.sub(r"^#+ (\d+(\.\d+)*\.? )?", "", line) for line in prose(text) if re.match(r"#+ ", line)]


def odd_headings(text: str) -> list[str]:
    """Return headings that are questions or statements instead of names."""
    return [line for line in headings(text) if QUESTION.match(line) or line.endswith((".", "?", "!", ":", ","))]


def found_in(texts, fault):
    """What a search for faults finds, by file."""
    return {name: found for name, text in texts.items() if (found := fault(text))}


def test_prose_is_wrapped():
    assert found_in(PAGES, long_lines) == {}


def test_verbs_are_negated_and_not_nouns():
    assert found_in(PAGES, banned) == {}


def test_headings_name_their_content():
    assert found_in(PAGES, odd_headings) == {}
    pages = {name: text for name, text in PAGES.items() if not name.startswith(RECORDS)}
    assert found_in(pages, lambda text: [line for line in headings(text) if len(line.split()) > 9]) == {}


def test_sentences_are_short():
    assert found_in(PAGES, lambda text: [one for one in sentences(text) if len(one.split()) > WORDS]) == {}


def test_faults_of_prose_are_found():
    long = " ".join(["word"] * 30)
    assert long_lines(f"{long}\n\n| {long} |\n\n```\n{long}\n```\n\n[a]({'x' * 200})\n") == [long]
    assert len(banned("There are no elements from 3 on.\nThe key is no\nhash. This is what `is no` loses.")) == 3
    assert banned('It is no longer used. It has no effect. It has not run. `is no file` "are no"') == []
    assert odd_headings("# What one gains\n## 1. Results\n### Where it runs?\n") == ["What one gains", "Where it runs?"]
    assert len(sentences(f"# Title\n\nOne. Two\nthree.\n\n- four\n- five; six\n\n| {long} |\n")) == 5


CODE = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for package in ("lottapack", "cli", "lottapack_serve")
    for path in sorted((ROOT / package).rglob("*.py"))
}
LIBRARY = [path for path in CODE if path.startswith("lottapack/")]
BANNED_IN_CODE = (*BANNED, r"\b[Tt]here (is|are) no\b", r"\b(is|are|was) none\b", r"\b(go|goes) with\b")

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
COMMAND = re.compile(r"\b(lottapack|pip|git|openssl) [a-z]")
"""A text with a whole command line may have options."""
NOT_MESSAGES = {
    "lottapack/arch/sealed.py": {"--version"},
    "lottapack/conformance/__main__.py": {"--kit", "--level", "--timeout"},
    "lottapack/pushing/card.py": {'--prompt "Once upon a time"', "--tokens 1,2,3"},
}
"""Arguments of a program, and a command line of the model card that is put together of parts."""

NOT_IMPERATIVE = re.compile(
    r"(The|An?|All|Any|Each|Every|One|Whether|What|Where|When|How|Who|Which|Whose|That|This|Those|It|Its|Of|With|In|As|"
    r"Same|Bytes|Names?|Numbers?|True|False|None)\b"
)


@cache
def texts(source: str) -> list[str]:
    """Return the texts and comments of a module. A value in an f-string is ``{}``."""
    tree = parse(source)
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in formatted for part in ast.walk(node)}
    found = [
        "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values) for node in formatted
    ]
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
    found += [node.value for node in constants if isinstance(node.value, str)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return found + [token.string for token in tokens if token.type == tokenize.COMMENT]


def banned_in(source: str) -> list[str]:
    """Return what BANNED_IN_CODE finds in the texts of a module. Quoted and code words do not count."""
    plain = [re.sub(r"``[^`]*``|`[^`]*`|\"[^\"]*\"", "``", " ".join(text.split())) for text in texts(source)]
    return [text for text in plain if any(re.search(pattern, text) for pattern in BANNED_IN_CODE)]


def options_in(source: str) -> list[str]:
    """Return the texts of a module that name an option of the command line, outside a whole command line."""
    return [text for text in texts(source) if OPTION.search(text) and not COMMAND.search(text)]


def odd_docstrings(source: str) -> list[str]:
    """Return first lines of docstrings of public functions that are not a sentence in the imperative.

    Properties are left out, as their docstrings name a value.
    """
    found = []
    for node in ast.walk(parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        marks = {getattr(mark, "attr", getattr(mark, "id", "")) for mark in node.decorator_list}
        first = (ast.get_docstring(node) or "").split("\n\n")[0]
        if first and not marks & {"property", "cached_property"}:
            found += [first] if NOT_IMPERATIVE.match(first) or not first.endswith(".") else []
    return found


def test_texts_of_the_code_negate_verbs():
    assert found_in(CODE, banned_in) == {}


def test_the_library_names_python_arguments():
    """The command line translates them: ``errors.in_options``."""
    found = {path: set(options_in(CODE[path])) - NOT_MESSAGES.get(path, set()) for path in LIBRARY}
    assert {path: options for path, options in found.items() if options} == {}


def test_docstrings_begin_with_an_imperative():
    assert found_in(CODE, odd_docstrings) == {}


def test_faults_of_texts_in_code_are_found():
    assert banned_in('f"{path} is no pack"') == ["{} is no pack"]
    assert banned_in("x = 1  # there is no recipe\n") == ["# there is no recipe"]
    assert banned_in('"The option goes with `is no`."') == ["The option goes with ``."]
    assert banned_in('f"{path} is not a pack"\nx = "`is no`"') == []
    assert options_in('hint = "Pass --max-bytes N."\nother = "Run lottapack pack x --seed 1."') == [
        "Pass --max-bytes N."
    ]
    source = 'def f():\n    """{}"""\n'
    assert odd_docstrings(source.format("Whether it fits.")) == ["Whether it fits."]
    assert odd_docstrings(source.format("Return whether it fits")) == ["Return whether it fits"]
    assert odd_docstrings(source.format("Return whether it fits.")) == odd_docstrings("def f(): pass") == []
