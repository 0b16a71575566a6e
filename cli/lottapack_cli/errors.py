"""The table of exit codes, and an error as text and as JSON."""

import re
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from shlex import quote
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


_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
_CALLED = {"architecture": "arch", "format": "form", "new_tokens": "new"}
"""Arguments of the library whose options have another name."""
_FUNCTIONS = {
    "`lottapack.recover.torch_cpu()`": "--rng torch-cpu with --seed",
    "`lottapack.recover.merged()`": "--from-merged with --seed and --max-rank",
}
"""Functions of the library that options of ``lottapack pack`` call."""


def in_options(text: str, options: Mapping[str, str]) -> str:
    """Return a library's text with the options of a command in place of Python arguments.

    Args:
        text: such as "pass a larger `max_bytes`".
        options: the option of each argument, such as ``{"max_bytes": "--max-bytes"}``. Other names stay as they are.
    """

    def option(argument: re.Match[str]) -> str:
        name, value = argument.groups()
        written = options.get(_CALLED.get(name, name)) or options.get(name)
        if written is None:
            return argument[0]
        if value == "False":
            return options.get(f"no_{name}", argument[0])
        if value is None:
            return written
        said = literal_eval(value) if value.startswith(("[", "'", '"')) else value
        return " ".join(f"{written} {quote(item)}" for item in (said if isinstance(said, list) else [said]))

    if "from_merged" in options:
        for function, written in _FUNCTIONS.items():
            text = text.replace(function, written)
    return _ARGUMENT.sub(option, text)


def options_of(command: Any, arguments: Sequence[str]) -> dict[str, str]:
    """Return the option or metavar of each parameter of the command that a command line names."""
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    return {
        parameter.name: max(parameter.opts, key=len) if parameter.opts[0].startswith("-") else parameter.metavar
        for parameter in command.params
        if parameter.metavar or parameter.opts[0].startswith("-")
    }


def exit_code(fault: LottapackError) -> int:
    """Return the exit code of an error, from the first line of the table that it is an instance of."""
    return next(code for kind, code in _EXIT_CODES if isinstance(fault, kind))


def record(fault: LottapackError, options: Mapping[str, str]) -> dict[str, Any]:
    """Return an error as JSON: ``kind``, ``message``, ``hint`` and all its ``problems``.

    ``options``: as in in_options().
    """
    message = fault.message
    problems: tuple[Problem, ...] = ()
    if isinstance(fault, FormatError | IntegrityError):
        message, problems = f"{fault.source} {fault.summary.rstrip(':')}", fault.problems
    return {
        "kind": type(fault).__name__,
        "message": in_options(message, options),
        "hint": in_options(fault.hint, options),
        "problems": tuple(replace(problem, message=in_options(problem.message, options)) for problem in problems),
    }


def usage_record(message: str, hint: str) -> dict[str, Any]:
    """Return a wrong command line in the form of record()."""
    return {"kind": "UsageError", "message": message, "hint": hint, "problems": []}


def attempted(work: Callable[[], T]) -> T | LottapackError:
    """Return what a function returns, or the error that it raises."""
    try:
        return work()
    except LottapackError as fault:
        return fault
