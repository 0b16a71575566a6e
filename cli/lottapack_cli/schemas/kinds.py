"""The forms that fields have in JSON, and the fields that commands share."""

from typing import Any

from lottapack_cli.render import NOT_FINITE

Schema = dict[str, Any]


def text(meaning: str, *choices: str) -> Schema:
    """Describe a text, or one of some texts."""
    return {"type": "string", "description": meaning, **({"enum": list(choices)} if choices else {})}


def whole(meaning: str) -> Schema:
    """Describe an integer."""
    return {"type": "integer", "description": meaning}


def number(meaning: str) -> Schema:
    """Describe a number, which may not be finite."""
    return {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE.values())}], "description": meaning}


def flag(meaning: str) -> Schema:
    """Describe a truth value."""
    return {"type": "boolean", "description": meaning}


def anything(meaning: str) -> Schema:
    """Describe a value of any kind."""
    return {"description": meaning}


def or_null(schema: Schema) -> Schema:
    """Return a schema that also accepts null."""
    inner = {key: value for key, value in schema.items() if key != "description"}
    return {"anyOf": [inner, {"type": "null"}], "description": schema["description"]}


def items(meaning: str, of: Schema | None = None) -> Schema:
    """Describe a list, by default of texts."""
    return {"type": "array", "description": meaning, "items": of or {"type": "string"}}


def by_name(meaning: str, of: Schema | None = None) -> Schema:
    """Describe an object whose keys are names, by default of texts."""
    return {"type": "object", "description": meaning, "additionalProperties": of or {"type": "string"}}


def record(meaning: str, **fields: Schema) -> Schema:
    """Describe an object with these fields and no others."""
    return {
        "type": "object",
        "description": meaning,
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


OK = flag("Whether the command succeeded and all its checks passed.")
WARNINGS = items("Warnings, which are printed on standard error without --json.")
PATH, SIZE, SHA256 = text("The file."), whole("Its size in bytes."), text("SHA-256 of the file, 64 hex digits.")
COUNT = {"type": "integer"}

ERROR = record(
    "What failed.",
    kind=text("The error's class in lottapack.errors; UsageError for a wrong command line, or Interrupted."),
    message=text("What failed, and where."),
    hint=text("The next step, or empty."),
    problems=items(
        "Everything wrong with a pack; empty for other errors.",
        record(
            "One fault.",
            kind=text("The kind of fault, from spec/v1/refusals.md."),
            where=text("The place in the file."),
            message=text("The fault as text."),
        ),
    ),
)

FILE = record("One file.", name=text("Its name."), size=SIZE)
