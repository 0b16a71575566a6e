"""The demo's second process, ``python -m lottapack_cli.demo.rebuild REFERENCE``: an address is all that it has."""

import os
import sys
import time

import msgspec

import lottapack
from lottapack_cli.demo.data import load_digits
from lottapack_cli.demo.evidence import Evidence, gather


class Rebuilt(msgspec.Struct, frozen=True):
    """What the process prints as JSON. Times in seconds: for pull() and load() alone, without the start of Python.

    ``path``: the pack in the cache; ``received``: bytes that came over the network; ``revision``: the commit.
    """

    evidence: Evidence
    process: int
    path: str
    received: int
    revision: str
    pull_seconds: float
    load_seconds: float


def main(reference: str) -> None:
    """Pull the pack, load it, gather the evidence, print it."""
    _, test = load_digits()
    begin = time.perf_counter()
    pulled = lottapack.pull(reference)
    pull_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    model = lottapack.load(pulled.path)
    load_seconds = time.perf_counter() - begin
    evidence = gather(model, test)
    told = (os.getpid(), str(pulled.path), pulled.received, pulled.revision, pull_seconds, load_seconds)
    sys.stdout.buffer.write(msgspec.json.encode(Rebuilt(evidence, *told)))


if __name__ == "__main__":
    main(sys.argv[1])
