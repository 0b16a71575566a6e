"""The front matter of a card that lies in a repository, when a push brings it up to date."""

import random
import time
from collections.abc import Iterator

import yaml

from lottapack.pushing import front_matter

SECONDS = 15.0
"""Of processor time under instrumentation; more is a hang."""
PIECES = (
    "license: mit\n", "tags:\n- a\n- b\n", "tags: [a, b]\n", "# a comment\n", "\n", "date: 2024-13-45\n",
    "x: !!bool foo\n", "x: !!timestamp foo\n", 'x: !!int ""\n', "a: &a [x, x]\n", "b: *a\n", "<<: *a\n",
    "x: |\n  text\n # no\n", "? [1]\n: 2\n", "- a\n", "{a: b}\n", "x: {a: [b, {c: d}]}\n", "x: .nan\n", "x: 1:2:3\n",
    "x: 0o777777\n", "\ufeff", "---\n", "...\n", "%YAML 9.9\n", "x: !!python/object/apply:os.system [a]\n",
    "\tx: 1\n", "x: '\n", 'x: "\\ud800"\n', "license: no\n", "language:\n- en  # why\n", "x: " + "[" * 500 + "\n",
    "x: 2026-01-01T00:00:00Z\n", "x: = \n", "x: !<tag:yaml.org,2002:binary> a\n", "null: null\n",
)  # fmt: skip


def seeds() -> Iterator[bytes]:
    """What people write, and what parsers stumble over."""
    yield b"license: mit  # for now\n\ntags:  # many\n- vision\n\n# the end\nlanguage: en\n"
    for piece in PIECES:
        yield piece.encode("utf-8", "surrogatepass")


def mutated(data: bytes, seed: int) -> bytes | None:
    """Pieces put in, taken out and repeated."""
    draw = random.Random(seed)
    lines = data.decode("utf-8", "replace").splitlines(keepends=True)
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(lines) + 1)
        kind = draw.randrange(3)
        if kind == 0 or not lines:
            lines.insert(place, draw.choice(PIECES))
        elif kind == 1:
            del lines[place : place + draw.randrange(1, 3)]
        else:
            lines[place:place] = lines[: draw.randrange(1, 5)] * draw.randrange(1, 4)
    return "".join(lines).encode("utf-8", "surrogatepass")


def one(data: bytes) -> None:
    """Bring a card up to date: its other keys say what they said, and it takes no time."""
    block = data.decode("utf-8", "replace")
    begin = time.process_time()
    made = front_matter.merged(block, {"license": "apache-2.0"}, {"tags": ["lottapack"], "library_name": "lottapack"})
    taken = time.process_time() - begin
    if taken > SECONDS:
        raise AssertionError(f"{taken:.1f} s")
    front_matter.split(f"---\n{block}---\nbody\n")
    if made is not None:
        before, after = yaml.safe_load(block) or {}, yaml.safe_load(made)
        assert after["license"] == "apache-2.0"
        kept = {key: value for key, value in before.items() if key != "license" and value is not None}
        assert repr({key: after[key] for key in kept}) == repr(kept)  # as text: a NaN equals nothing
