"""The index of the vectors: every case as a line of the protocol of conformance.md, with the answer that is due."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from . import coding_cases, element_cases, json_cases, merge, philox, stream, tables
from .canonical import text_of
from .small import MOST_BYTES

MUST_BE_REFUSED_BY_ALL = frozenset(
    (
        *(f"container {kind}" for kind in ("length", "json", "metadata", "entry", "shape", "offsets", "digest")),
        *("descriptor json", "descriptor version", "descriptor tied", "agreement missing", "agreement mismatch"),
        *("agreement table", "contents sha256", "contents coding", "contents bool", "contents fingerprint"),
        "limit limit",
    )
)
"""Sections and kinds that the level *load* refuses too."""

MOST_WEIGHTS = 1000
PARTS = ("lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out")
MOST_TEXT = 20_000


def escaped(text: str) -> str:
    """A text as it stands in canonical JSON, without its quotes."""
    return text_of(text)[1:-1]


def line(level: str, request: Iterable[Any], answer: Iterable[Any]) -> str:
    """A line of the index."""
    fields = [level, *request, "=", *answer]
    return "\t".join(map(str, fields)) + "\n"


def hexadecimal(words: list[str] | None) -> str:
    """Words, most significant digit first, as bytes in the file's order."""
    return "".join(bytes.fromhex(word)[::-1].hex() for word in words or []) or "-"


def joined(values: Iterable[Any]) -> str:
    """Sizes with commas between them."""
    return ",".join(map(str, values)) or "-"


def answers() -> Iterator[str]:
    """The known answers."""
    for case in philox.known_answers()["random123"]:
        request = "philox", " ".join(case["counter"]), " ".join(case["key"])
        yield line("load", request, [" ".join(case["output"])])
    for case in stream.known_answers()["cases"]:
        yield line("load", ["stream", escaped(case["name"])], [case["stream"]])
    for case in tables.known_answers()["tables"]:
        yield line("load", ["table", case["id"]], [case["sha256"]])
    for case in element_cases.known_answers()["cases"]:
        table = hexadecimal(case["table"]) if case["table"] else case["distribution"]
        request = "elements", escaped(case["name"]), case["seed"], table, case["bits"], case["scale"], case["dtype"]
        place = case["start"], case["count"], joined(case["shape"] or [])
        yield line("load", [*request, *place], [case["sha256"], case["fingerprint"]])
    for case in coding_cases.known_answers()["cases"]:
        coded = case["codes"] or "-", case["scales"] or "-"
        yield line("load", ["decode", case["id"], case["dtype"], joined(case["shape"]), *coded], [case["sha256"]])
    for case in merge.known_answers()["cases"]:
        yield line("load", ["merge", *merged(case)], [digest(case["merged"])])
    yield from texts()


def merged(case: dict[str, Any]) -> Iterator[Any]:
    """The fields of a case of merging."""
    shape, batch = case["shape"], case["batch_dims"]
    first, rest = shape[batch], product(shape[batch + 1 :])
    d_out, d_in = (rest, first) if case["fan_in_fan_out"] else (first, rest)
    yield joined([product(shape[:batch]), d_out, d_in, case["rank"]])
    yield from (text_of(case["fan_in_fan_out"]), text_of(case["alpha"]), case["scaling"])
    yield from (case["shared_factor"] or "-", case["dtype"], case["adapter_dtype"])
    yield from (hexadecimal(case[part]) for part in ("weight", *PARTS))


def product(sizes: list[int]) -> int:
    """The product; 1 of none."""
    total = 1
    for size in sizes:
        total *= size
    return total


def digest(words: list[str]) -> str:
    """The SHA-256 of words in the file's order."""
    return hashlib.sha256(bytes.fromhex(hexadecimal(words).removeprefix("-"))).hexdigest()


def texts() -> Iterator[str]:
    """The cases of JSON."""
    made = json_cases.known_answers()
    first = len(json_cases.ACCEPTED)
    yield from accepted_texts(made["accepted"][:first])
    for case in made["refused"]:
        text = b"".join(bytes.fromhex(piece) * times for piece, times in case["pieces"])
        if len(text) <= MOST_TEXT:
            yield line("judge", ["json", text.hex() or "-"], ["refused", case["kind"]])
    yield from accepted_texts(made["accepted"][first:])


def accepted_texts(cases: list[dict[str, Any]]) -> Iterator[str]:
    """Texts of JSON, and their canonical form if that is another."""
    for case in cases:
        request = "json", case["text"].encode().hex()
        yield line("judge", request, ["ok"] if case["is_canonical"] else ["refused", "canonical"])
        if not case["is_canonical"]:
            yield line("judge", ["json", case["canonical"].encode().hex()], ["ok"])


def pairs(values: dict[str, str]) -> list[str]:
    """Names and values in turn, in the order of the names."""
    return [field for name in sorted(values) for field in (escaped(name), values[name])]


def accepted(path: str, sidecar: dict[str, Any]) -> Iterator[str]:
    """What a valid pack gives."""
    yield line("load", ["check", path, MOST_BYTES], ["ok"])
    for name, weights in {"default": sidecar, **sidecar.get("scaffolds", {})}.items():
        yield line("load", ["fingerprints", path, name], ["ok", *pairs(weights["fingerprints"])])
        if len(weights["merged_sha256"]) <= MOST_WEIGHTS:
            yield line("load", ["weights", path, name], ["ok", *pairs(weights["merged_sha256"])])
    yield line("load", ["files", path], ["ok", *pairs(sidecar.get("files", {}))])


BEFORE_ALLOWANCES = "zeros_of_any_scale"
"""The last pack of those that were there before the questions of allowances()."""


def allowances() -> Iterator[str]:
    """The pack ``minimal``, whose tensor takes 16 bytes, where as much is allowed and where a byte less is."""
    path = "files/valid/minimal.lotta.safetensors"
    yield line("load", ["check", path, 16], ["ok"])
    yield line("load", ["check", path, 15], ["refused", "limit", "limit", "parameters"])


def refused(path: str, sidecar: dict[str, Any]) -> str:
    """How an invalid pack is refused."""
    section, kind = sidecar["section"], sidecar["kind"]
    level = "load" if f"{section} {kind}" in MUST_BE_REFUSED_BY_ALL else "judge"
    allowed = sidecar.get("allowed", MOST_BYTES)
    return line(level, ["check", path, allowed], ["refused", section, kind, escaped(sidecar["where"])])
