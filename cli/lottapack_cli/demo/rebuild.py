"""The demo's second process, ``python -m lottapack_cli.demo.rebuild REFERENCE``. It knows only an address."""

import os
import sys
import time

import msgspec

import lottapack
from lottapack_cli.demo.data import load_digits
from lottapack_cli.demo.evidence import Evidence, gather


class Rebuilt(msgspec.Struct, frozen=True):
    """The JSON that the process prints. Times are in seconds, for pull() and load() only, without starting Python.

    ``path``: the pack in the cache; ``received``: bytes received over the network; ``revision``: the commit.
    """

    evidence: Evidence
    process: int
    path: str
    received: int
    revision: str
    pull_seconds: float
    load_seconds: float


def main(reference: str) -> None:
    """Pull the pack, load it, gather the evidence and print it."""
    _, test = load_digits()
    begin = time.perf_counter()
    pulled = lottapack.pull(reference)
    pull_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    model = lottapack.load(pulled.path)
    load_seconds = time.perf_counter() - begin
    evidence = gather(model, test)
    figures = (os.getpid(), str(pulled.path), pulled.received, pulled.revision, pull_seconds, load_seconds)
    sys.stdout.buffer.write(msgspec.json.encode(Rebuilt(evidence, *figures)))


if __name__ == "__main__":
    main(sys.argv[1])
