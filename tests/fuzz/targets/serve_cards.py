"""The front matter of a card that someone commits to a registry: JSON in UTF-8, or a CardError, in bounded time."""

import json
import time
from collections.abc import Iterator

from lottapack_serve import cards

SECONDS = 15.0
"""Of processor time; more is a hang. A card at every limit takes half a second; instrumented, some times that."""


def seeds() -> Iterator[bytes]:
    """What cards have, and what parsers stumble over."""
    yield b"license: mit\ntags:\n- a\n- b\nlibrary_name: lottapack\nlanguage: [en, de]\nmodel-index:\n- name: x\n"
    for value in (
        "!!int ''",
        "!!bool a",
        "!!float ''",
        "!!timestamp a",
        "!!binary aGk=",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        "1:59:59",
        "1:59.5",
        "0x1f",
        "0b1",
        "08",
        ".inf",
        "-.nan",
        "2024-13-45",
        "2001-01-01T00:00:00Z",
        "&a b",
        "*a",
        "{<<: {a: b}}",
        '"\\uD800"',
        '"\\x41\\U0001F600"',
        "|\n  a\n  b",
        ">-\n  a",
        "'it''s'",
        "[[[[1]]]]",
        "=",
        "~",
        "? a",
    ):
        yield f"x: {value}".encode()
    yield b"%YAML 1.1\n%TAG ! tag:x,2000:\n--- !a b\n...\n"


def one(data: bytes) -> None:
    """Parse it as the registry does."""
    text = data.decode("utf-8", "replace")
    begin = time.process_time()
    for whole in (f"---\n{text}\n---\n", text):
        try:
            found = cards.front_matter(whole)
        except cards.CardError as fault:
            if not str(fault).encode():
                raise AssertionError("an error without words") from fault
            continue
        finally:
            if time.process_time() - begin > SECONDS:
                raise AssertionError(f"{len(data)} bytes took {time.process_time() - begin:.2f} s")
        if json.loads(json.dumps(found, ensure_ascii=False, allow_nan=False).encode()) != found:
            raise AssertionError("it is not what JSON makes of it")
        for tag in cards.tags(found or {}):
            tag.encode()
