"""Run the conformance kit against a reader, whose command follows two dashes."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lottapack.conformance.judging import run
from lottapack.conformance.kit import LEVELS, cases, opened
from lottapack.conformance.talk import PROTOCOL, Reader
from lottapack.errors import LottapackError

_SHOWN = 20


def main(words: Sequence[str] | None = None) -> int:
    """Run the kit and print the score. Return 0 if the reader passes, 1 if it fails, 2 if it cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m lottapack.conformance", description=__doc__)
    parser.add_argument(
        "--kit", type=Path, help="a kit: a folder or an archive (default: the vectors of this checkout)"
    )
    parser.add_argument(
        "--level", choices=LEVELS, help="the level to hold the reader to (default: what it says itself)"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer")
    parser.add_argument("command", nargs="+", help="the reader: a program and its arguments, after --")
    given = parser.parse_args(words)
    program, *arguments = given.command
    command = [os.path.abspath(program) if os.path.exists(program) else program, *arguments]  # noqa: PTH100, PTH110
    if shutil.which(command[0]) is None:
        print(f"cannot run {program}: it is not a program. Check the path.", file=sys.stderr)
        return 2
    try:
        with opened(given.kit) as folder, Reader(command, folder, given.timeout) as reader:
            return _score(reader, folder, given.level)
    except LottapackError as error:
        print(error, file=sys.stderr)
        return 2


def _score(reader: Reader, folder: Path, level: str | None) -> int:
    said = reader.ask(["hello", PROTOCOL])
    if len(said) != 2 or said[0] != PROTOCOL or said[1] not in LEVELS:
        print(f"the reader answers {' '.join(said)!r} to hello. It should answer {PROTOCOL}, a tab and its level.")
        return 2
    score = run(reader, cases(folder), level or said[1])
    print(f"{'request':<14}{'passed':>8}{'skipped':>9}{'failed':>8}")
    for request, counts in score.counts.items():
        print(f"{request:<14}{counts['passed']:>8}{counts['skipped']:>9}{counts['failed']:>8}")
    for case, answer in score.failures[:_SHOWN]:
        print(f"failed: {case.place}\n  due: {' '.join(case.answer)[:200]}\n  got: {' '.join(answer)[:200]}")
    if len(score.failures) > _SHOWN:
        print(f"... and {len(score.failures) - _SHOWN} more")
    print(f"{'passes' if score.ok else 'fails'} at the level {score.level}")
    return 0 if score.ok else 1


if __name__ == "__main__":
    sys.exit(main())
