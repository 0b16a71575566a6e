"""The body of a commit, as a registry reads it: refused, or the same change however it is cut into pieces."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import target

from lottapack_serve.blobs import BlobStore
from lottapack_serve.commits import Add
from lottapack_serve.limits import Limits
from lottapack_serve.ndjson import CommitReader
from lottapack_serve.refusals import RefusedError

LIMITS = Limits(file_bytes=1000, commit_bytes=3000, commit_files=20)


def seeds() -> Iterator[bytes]:
    """Bodies of every kind of line, and in other spellings of JSON."""
    header: dict[str, object] = {
        "key": "header",
        "value": {"summary": "s", "description": "d", "parentCommit": "a" * 40},
    }
    content = base64.b64encode(bytes(range(256))).decode()
    lines: list[dict[str, object]] = [
        {"key": "file", "value": {"content": content, "path": "a/b", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "c", "algo": "sha256", "oid": "0" * 64, "size": 1}},
        {"key": "deletedFile", "value": {"path": "d"}},
        {"key": "deletedFolder", "value": {"path": "e/"}},
    ]
    yield b"\n".join(json.dumps(line).encode() for line in (header, *lines))
    for line in lines:
        yield (
            json.dumps(header).encode() + b"\r\n \n" + json.dumps(line, indent=1).encode().replace(b"\n", b"\t") + b"\n"
        )
    yield (
        b'{"key":"header","value":{"summary":"\\u00e9\\ud83d\\ude00"}}\n'
        b'{"value":{"path":"\\"content\\":","content" : "QU\\/B","encoding":"base64"},"key":"file"}'
    )


def outcome(folder: Path, data: bytes, step: int) -> object:
    """What a body says, read in pieces of so many bytes; the status where it is refused."""
    reader = CommitReader(BlobStore(folder).receive, LIMITS)
    try:
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        change = reader.finish()
        operations = [
            (operation.path, operation.content.blob.sha256) if isinstance(operation, Add) else operation
            for operation in change.operations
        ]
        f"{change.title}{change.message}{operations}".encode()
        return change.title, change.message, change.parent, operations
    except RefusedError as fault:
        if not 400 <= fault.status < 500 or not fault.message:
            raise AssertionError(f"refused with {fault.status}: {fault.message!r}") from fault
        return None  # which of several faults is met first depends on the pieces
    finally:
        reader.discard()
        if any((folder / "incoming").iterdir()):
            raise AssertionError("a content was left")


def one(data: bytes) -> None:
    """Read it whole and in two kinds of pieces."""
    folder = target.scratch(Path("/tmp")).with_suffix(".commit")
    try:
        results = [outcome(folder, data, step) for step in (len(data) or 1, 1, 7)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if results[1:] != results[:1] * 2:
        raise AssertionError(f"read differently in pieces: {results}")
