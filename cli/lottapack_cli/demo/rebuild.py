"""The demo's second process, ``python -m lottapack_cli.demo.rebuild PACK``: the pack is all that it has."""

import os
import sys
import time

import msgspec

import lottapack
from lottapack_cli.demo.data import load_digits
from lottapack_cli.demo.evidence import Evidence, gather


class Rebuilt(msgspec.Struct, frozen=True):
    """What the process prints as JSON. ``seconds``: for load() alone, without the start of Python."""

    evidence: Evidence
    process: int
    seconds: float


def main(path: str) -> None:
    """Load the pack, gather the evidence, print it."""
    _, test = load_digits()
    begin = time.perf_counter()
    model = lottapack.load(path)
    seconds = time.perf_counter() - begin
    sys.stdout.buffer.write(msgspec.json.encode(Rebuilt(gather(model, test), os.getpid(), seconds)))


if __name__ == "__main__":
    main(sys.argv[1])
