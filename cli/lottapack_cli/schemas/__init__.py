"""The fields that ``--json`` prints. The documentation's page is generated from this module, and tests compare it.

A number that is not finite is one of the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, since JSON does not
support it. Paths are texts. Every field is always present; one that does not apply is ``null`` or empty.
"""

from lottapack_cli.schemas import models, packs, registries
from lottapack_cli.schemas.kinds import ERROR, OK, WARNINGS, Schema, flag, record

COMMANDS: dict[str, tuple[dict[str, Schema], ...]] = {**packs.COMMANDS, **models.COMMANDS, **registries.COMMANDS}
"""The fields of each command besides ``ok`` and ``warnings``; several sets if the command has several modes."""

REFUSAL = record("A command that was refused.", ok=flag("False."), error=ERROR, warnings=WARNINGS)


def schema_of(command: str) -> Schema:
    """Return the JSON schema of a command's object."""
    made = [record(f"lottapack {command}", ok=OK, **fields, warnings=WARNINGS) for fields in COMMANDS[command]]
    return {"anyOf": [*made, REFUSAL]}


def document() -> Schema:
    """Return one JSON schema document with all commands in its ``$defs``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the commands of lottapack print with --json",
        "$defs": {command.replace(" ", "-"): schema_of(command) for command in COMMANDS},
    }
