"""Write the vectors of the format, or compare them with what is there.

python generate.py            write the files beside this one
python generate.py --check    compare; exit 1 and name the files that differ, are missing or are left over
python generate.py --kit FILE write the conformance kit, an archive (.tar.xz) of the index and the packs
"""

import argparse
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maker import (
    coding_cases,
    element_cases,
    index,
    invalid_adapters,
    invalid_alone,
    invalid_codings,
    invalid_computed,
    invalid_container,
    invalid_descriptor,
    invalid_files,
    invalid_form,
    invalid_hostile,
    invalid_hostile_descriptor,
    invalid_limits,
    invalid_rest,
    invalid_scaffolds,
    json_cases,
    merge,
    philox,
    signature,
    stream,
    tables,
    valid,
)

HERE = Path(__file__).parent
SUFFIX = ".lotta.safetensors"
ANSWERS = {
    "philox": philox.known_answers,
    "streams": stream.known_answers,
    "tables": tables.known_answers,
    "elements": element_cases.known_answers,
    "codings": coding_cases.known_answers,
    "merge": merge.known_answers,
    "json": json_cases.known_answers,
    "signatures": signature.known_answers,
}


def text(value: Any) -> bytes:
    """JSON for people: a line for each field, short arrays on one line."""
    return (readable(value, "") + "\n").encode()


def readable(value: Any, indent: str) -> str:
    """``value`` as JSON; objects and arrays that fit in a line stay in it."""
    line = json.dumps(value, ensure_ascii=True)
    if len(line) + len(indent) <= 160 or not isinstance(value, dict | list):
        return line
    inner = indent + " "
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return line
        return "[\n" + ",\n".join(inner + readable(item, inner) for item in value) + f"\n{indent}]"
    fields = (f"{inner}{json.dumps(key)}: {readable(item, inner)}" for key, item in value.items())
    return "{\n" + ",\n".join(fields) + f"\n{indent}}}"


def made() -> Iterator[tuple[str, bytes]]:
    """Every file: its path from here, and its bytes."""
    lines = list(index.answers())
    for name, answers in ANSWERS.items():
        yield f"{name}.json", text(answers())
    for accepted in valid.cases():
        yield f"files/valid/{accepted.name}{SUFFIX}", accepted.data
        yield f"files/valid/{accepted.name}.json", text(accepted.sidecar)
        lines += index.accepted(f"files/valid/{accepted.name}{SUFFIX}", accepted.sidecar)
        if accepted.name == index.BEFORE_ALLOWANCES:
            lines += index.allowances()
    described = (invalid_form, invalid_descriptor, invalid_scaffolds, invalid_adapters, invalid_codings)
    described += (invalid_files, invalid_computed)
    hostile = (invalid_hostile, invalid_hostile_descriptor)
    for group in (invalid_container, *described, invalid_rest, *hostile, invalid_limits, invalid_alone):
        for refused in group.cases():
            yield f"files/invalid/{refused.name}{SUFFIX}", refused.data
            yield f"files/invalid/{refused.name}.json", text(refused.sidecar)
            lines.append(index.refused(f"files/invalid/{refused.name}{SUFFIX}", refused.sidecar))
    yield "index.tsv", "".join(lines).encode()


def write_kit(path: Path) -> None:
    """Write the conformance kit: the index, the packs, and the pages that explain them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = [HERE / "README.md", HERE.parent / "conformance.md", *HERE.glob("*.tsv")]
    with tarfile.open(path, "w:xz") as archive:
        for file in sorted([*pages, *HERE.glob(f"files/*/*{SUFFIX}")]):
            name = file.relative_to(HERE).as_posix() if file.is_relative_to(HERE) else file.name
            entry = tarfile.TarInfo(name)
            entry.size = file.stat().st_size
            with file.open("rb") as content:
                archive.addfile(entry, content)


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--kit", type=Path, help="write the conformance kit, an archive")
    arguments = parser.parse_args()
    if arguments.kit is not None:
        write_kit(arguments.kit)
        return 0
    check = arguments.check
    due: dict[str, bytes] = {}
    for path, data in made():
        assert path not in due, f"two vectors are called {path}"
        due[path] = data
    there = {
        path.relative_to(HERE).as_posix()
        for path in (*HERE.glob("*.json"), *HERE.glob("*.tsv"), *HERE.glob("files/*/*"))
    }
    differing = [path for path, data in due.items() if path not in there or (HERE / path).read_bytes() != data]
    left_over = sorted(there - due.keys())
    if check:
        for path in differing:
            print(f"differs or is missing: {path}")
        for path in left_over:
            print(f"is not a vector: {path}")
        return 1 if differing or left_over else 0
    for path in left_over:
        (HERE / path).unlink()
    for path in differing:
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_bytes(due[path])
    print(f"{len(due)} files, {len(differing)} of them written, {len(left_over)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
