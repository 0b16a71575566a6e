"""Match names of modules against regular expressions of a stranger's file, which may take time without end."""

import math
import re
import subprocess
import sys
from functools import lru_cache
from typing import Final

from lottapack.errors import CheckpointError

SECONDS: Final = 10.0
"""For one name; what is not meant to take long takes microseconds."""
_STEPS: Final = 10**8
"""Repeats beside each other share out the characters of a name; with more ways than this it takes seconds or hours."""
_REPEAT: Final = re.compile(r"[*+{]|(?<![(*+}?])\?")
_TRY: Final = "import re, sys; sys.exit(re.fullmatch(sys.argv[1], sys.argv[2]) is None)"


def fullmatch(pattern: str, name: str) -> bool:
    """Return whether a pattern matches a whole name. Raises CheckpointError if that takes too long."""
    if _may_take_long(pattern, len(name)):
        return _in_a_process(pattern, name)
    return re.fullmatch(pattern, name) is not None


def _may_take_long(pattern: str, length: int) -> bool:
    repeats = len(_REPEAT.findall(pattern))
    return re.search(r"\)[*+{]", pattern) is not None or math.comb(length + repeats, repeats) > _STEPS


@lru_cache(maxsize=10_000)
def _in_a_process(pattern: str, name: str) -> bool:
    """Match in a process that can be ended, which a call of ``re`` cannot."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRY, pattern, name], timeout=SECONDS, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired as fault:
        raise CheckpointError(
            f"matching {name!r} with the pattern {pattern[:80]!r} takes more than {SECONDS:.0f} seconds",
            hint="Write the pattern in adapter_config.json without repeats inside repeats.",
        ) from fault
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"cannot match names with {pattern[:80]!r}: {fault}", hint="Simplify it.") from fault
    return done.returncode == 0
