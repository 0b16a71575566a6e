"""The table of errors: exit codes, and an error in words and as JSON."""

from collections.abc import Callable
from typing import Any, TypeVar

from lottapack.errors import (
    DeviceError,
    FormatError,
    IntegrityError,
    LottapackError,
    Problem,
    RegistryError,
    SignatureError,
)

T = TypeVar("T")

DONE, CHECK_FAILED, WRONG_INPUT, REGISTRY_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

_EXIT_CODES: tuple[tuple[type[LottapackError], int], ...] = (
    (IntegrityError, CHECK_FAILED),
    (DeviceError, CHECK_FAILED),
    (SignatureError, CHECK_FAILED),
    (RegistryError, REGISTRY_FAILED),
    (LottapackError, WRONG_INPUT),
)


def exit_code(fault: LottapackError) -> int:
    """The exit code of an error: that of the first line of the table which it is an instance of."""
    return next(code for kind, code in _EXIT_CODES if isinstance(fault, kind))


def record(fault: LottapackError) -> dict[str, Any]:
    """An error as JSON: ``kind``, ``message``, ``hint`` and every one of its ``problems``."""
    message = fault.message
    problems: tuple[Problem, ...] = ()
    if isinstance(fault, FormatError | IntegrityError):
        message, problems = f"{fault.source}: {fault.summary.rstrip(':')}", fault.problems
    return {"kind": type(fault).__name__, "message": message, "hint": fault.hint, "problems": problems}


def usage_record(message: str, hint: str) -> dict[str, Any]:
    """A wrong command line, in the form of record()."""
    return {"kind": "UsageError", "message": message, "hint": hint, "problems": []}


def attempted(work: Callable[[], T]) -> T | LottapackError:
    """What a function returns, or the error that it raises, where one of several may fail."""
    try:
        return work()
    except LottapackError as fault:
        return fault
