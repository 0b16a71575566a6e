"""The rules of CONTRIBUTING.md on prose that a test can hold."""

import re
from pathlib import Path

import pytest

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
    """The lines outside code, each without the targets of its links."""
    text = re.sub(r"^( *)```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"\]\([^)]*\)", "]", line) for line in text.splitlines()]


def long_lines(text: str) -> list[str]:
    """Lines of prose over WIDTH characters; tables and pictures cannot be wrapped, nor words without a space."""
    lines = [line for line in prose(text) if not line.startswith(("|", "!["))]
    return [line for line in lines if len(line) > WIDTH and " " in line.strip("-> ")]


def sentences(text: str) -> list[str]:
    """The sentences outside code, tables and headings. An item of a list begins one."""
    lines = [line for line in prose(text) if not line.startswith(("|", "#", "!["))]
    blocks = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", "\n".join(lines))
    return [
        " ".join(part.split()) for block in blocks for part in re.split(r"(?<=[.!?:;])[*)]*\s+", block) if part.strip()
    ]


def banned(text: str) -> list[str]:
    """What the rules do not allow, with the words around it. Quoted and code words do not count."""
    whole = re.sub(r"`[^`]*`|\"[^\"]*\"", "``", " ".join(" ".join(prose(text)).split()))
    found = [match for pattern in BANNED for match in re.finditer(pattern, whole)]
    return [whole[max(0, match.start() - 30) : match.end() + 30] for match in found]


def headings(text: str) -> list[str]:
    """The words of the headings, without numbers."""
    return [re.sub(r"^#+ (\d+(\.\d+)*\.? )?", "", line) for line in prose(text) if re.match(r"#+ ", line)]


def odd_headings(text: str) -> list[str]:
    """Headings that ask or tell something instead of naming their content."""
    return [line for line in headings(text) if QUESTION.match(line) or line.endswith((".", "?", "!", ":", ","))]


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_wrapped(page):
    assert long_lines(PAGES[page]) == []


@pytest.mark.parametrize("page", PAGES)
def test_verbs_are_negated_and_not_nouns(page):
    assert banned(PAGES[page]) == []


@pytest.mark.parametrize("page", PAGES)
def test_headings_name_their_content(page):
    assert odd_headings(PAGES[page]) == []
    assert page.startswith(RECORDS) or [line for line in headings(PAGES[page]) if len(line.split()) > 9] == []


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page):
    assert [sentence for sentence in sentences(PAGES[page]) if len(sentence.split()) > WORDS] == []


def test_faults_of_prose_are_found():
    long = " ".join(["word"] * 30)
    assert long_lines(f"{long}\n\n| {long} |\n\n```\n{long}\n```\n\n[a]({'x' * 200})\n") == [long]
    assert len(banned("There are no elements from 3 on.\nThe key is no\nhash. This is what `is no` loses.")) == 3
    assert banned('It is no longer used. It has no effect. It has not run. `is no file` "are no"') == []
    assert odd_headings("# What one gains\n## 1. Results\n### Where it runs?\n") == ["What one gains", "Where it runs?"]
    assert len(sentences(f"# Title\n\nOne. Two\nthree.\n\n- four\n- five; six\n\n| {long} |\n")) == 5
