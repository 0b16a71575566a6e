"""The table of errors: exit codes, and an error in words and as JSON."""

from typing import Any

from lottapack.errors import (
    DeviceError,
    FormatError,
    IntegrityError,
    LottapackError,
    Problem,
    RegistryError,
    SignatureError,
)

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
    """An error as JSON: ``type``, ``message``, ``hint`` and every one of its ``problems``."""
    message = fault.message
    problems: tuple[Problem, ...] = ()
    if isinstance(fault, FormatError | IntegrityError):
        message, problems = f"{fault.source}: {fault.summary.rstrip(':')}", fault.problems
    return {"type": type(fault).__name__, "message": message, "hint": fault.hint, "problems": problems}


def usage_record(message: str, hint: str) -> dict[str, Any]:
    """A wrong command line, in the form of record()."""
    return {"type": "UsageError", "message": message, "hint": hint, "problems": []}
