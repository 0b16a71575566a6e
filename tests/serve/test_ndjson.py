"""The body of a commit, read piece by piece."""

import base64
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_runs import add, commit_body

from lottapack_serve.blobs import BlobStore
from lottapack_serve.commits import Add, Change, Delete, Link
from lottapack_serve.limits import LINE_BYTES, Limits
from lottapack_serve.ndjson import CommitReader
from lottapack_serve.refusals import RefusedError


def read(folder: Path, body: bytes, cuts: list[int] | None = None, limits: Limits | None = None) -> Change:
    """Read a body cut into pieces; the contents stay the same."""
    reader = CommitReader(BlobStore(folder).receive, limits or Limits())
    try:
        places = [0, *sorted(cut % (len(body) + 1) for cut in cuts or []), len(body)]
        for begin, end in pairwise(places):
            reader.feed(body[begin:end])
        return reader.finish()
    except RefusedError:
        reader.discard()
        assert list((folder / "incoming").iterdir()) == []
        raise


def contents(change: Change) -> list[tuple[str, bytes]]:
    return [(one.path, one.content.path.read_bytes()) for one in change.operations if isinstance(one, Add)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.binary(max_size=40), max_size=4),
    cuts=st.lists(st.integers(0, 10**6), max_size=12),
    title=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    escaped=st.booleans(),
)
def test_any_body_cut_anywhere_is_read_whole(tmp_path, files, cuts, title, escaped):
    body = commit_body(*[add(f"f{number}", content) for number, content in enumerate(files)], title=title)
    change = read(tmp_path, body.replace(b"/", b"\\/") if escaped else body, cuts)
    assert change.title == title
    assert contents(change) == [(f"f{number}", content) for number, content in enumerate(files)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_pieces_of_every_size(tmp_path, size):
    content = bytes(range(256)) * 5
    body = commit_body(add("a/b", content)).replace(b"/", b"\\/")
    change = read(tmp_path, body, list(range(0, len(body), size)))
    assert contents(change) == [("a/b", content)]


def test_every_kind_of_change(tmp_path):
    change = read(
        tmp_path,
        commit_body(
            {"key": "lfsFile", "value": {"path": "l", "algo": "sha256", "oid": "ab", "size": 1}},
            {"key": "deletedFile", "value": {"path": "d"}},
            {"key": "deletedFolder", "value": {"path": "e/"}},
            parent="a" * 40,
        ),
    )
    assert change.operations == [Link("l", "ab"), Delete("d", False), Delete("e", True)]
    assert change.parent == "a" * 40


def test_other_orders_and_spaces_are_json_too(tmp_path):
    encoded = base64.b64encode(b"x").decode()
    line = (
        f'{{ "value" : {{"encoding":"base64", "path" : "a\\"content\\":b", "content" :\t"{encoded}" }}, "key":"file" }}'
    )
    change = read(tmp_path, commit_body() + b"\n \n" + line.encode())
    assert contents(change) == [('a"content":b', b"x")]


@pytest.mark.parametrize(
    "value", ["eA", "eA=", "e A==", "eA==eA==", "eA==\n", "=", "ä", "eA==\\/", "\\u0065A==", "e\\"]
)
def test_what_is_not_base64_is_refused(tmp_path, value):
    line = '{"key":"file","value":{"content":"' + value + '","path":"a","encoding":"base64"}}\n'
    for cuts in ([], list(range(500))):
        with pytest.raises(RefusedError, match=r"base64|middle of a line") as caught:
            read(tmp_path, commit_body() + line.encode(), cuts)
        assert caught.value.status == 400


HEADER = {"key": "header", "value": {"summary": "s"}}
BAD = {
    "no header": [add("a", b"")],
    "two headers": [HEADER, HEADER],
    "no summary": [{"key": "header", "value": {}}],
    "empty summary": [{"key": "header", "value": {"summary": " "}}],
    "odd message": [{"key": "header", "value": {"summary": "\ud800"}}],
    "odd parent": [{"key": "header", "value": {"summary": "s", "parentCommit": "main"}}],
    "unknown key": [HEADER, {"key": "chmod", "value": {}}],
    "no key": [HEADER, {"value": {}}],
    "no object": [HEADER, []],
    "no path": [HEADER, {"key": "file", "value": {"content": "", "encoding": "base64"}}],
    "path no text": [HEADER, {"key": "deletedFile", "value": {"path": 3}}],
    "value no object": [HEADER, {"key": "deletedFile", "value": "a"}],
    "no content": [HEADER, {"key": "file", "value": {"path": "a", "encoding": "base64"}}],
    "plain text": [HEADER, {"key": "file", "value": {"content": "eA==", "path": "a", "encoding": "utf-8"}}],
    "no encoding": [HEADER, {"key": "file", "value": {"content": "eA==", "path": "a"}}],
    "content elsewhere": [{"key": "header", "value": {"summary": "s", "content": "eA=="}}],
    "content beside the value": [HEADER, {"key": "file", "value": {"path": "a", "encoding": "base64"}, "content": ""}],
    "leaves the repository": [HEADER, add("../a", b"")],
    "link that leaves it": [HEADER, {"key": "lfsFile", "value": {"path": "/a", "oid": "x"}}],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_commit_is_refused(tmp_path, name):
    body = b"".join(json.dumps(line).encode() + b"\n" for line in BAD[name])
    with pytest.raises(RefusedError) as caught:
        read(tmp_path, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body", [b"{", b'{"key":"header', b'{"key":"header","value":{"summary":"s"}', b"[" * 20_000, b"\xff"]
)
def test_what_is_no_json_is_refused(tmp_path, body):
    with pytest.raises(RefusedError):
        read(tmp_path, body)
    with pytest.raises(RefusedError):
        read(tmp_path, commit_body() + body)


def test_two_contents_in_a_line_are_refused(tmp_path):
    line = b'{"key":"file","value":{"content":"eA==","content":"eA==","path":"a","encoding":"base64"}}'
    with pytest.raises(RefusedError, match="more than one content"):
        read(tmp_path, commit_body() + line)


LIMITS = Limits(file_bytes=10, commit_bytes=15, commit_files=3)


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ([add("a", b"x" * 11)], "A file of a commit"),
        ([add("a", b"x" * 8), add("b", b"x" * 8)], "A commit can have 15 bytes"),
        ([add(str(number), b"") for number in range(4)], "3 files"),
        ([{"key": "deletedFile", "value": {"path": str(number)}} for number in range(4)], "3 changes"),
    ],
)
def test_limits_hold_while_reading(tmp_path, operations, words):
    with pytest.raises(RefusedError, match=words) as caught:
        read(tmp_path, commit_body(*operations), limits=LIMITS)
    assert caught.value.status == 413


def test_at_the_limits(tmp_path):
    change = read(tmp_path, commit_body(add("a", b"x" * 10), add("b", b"x" * 5)), limits=LIMITS)
    assert [len(content) for _, content in contents(change)] == [10, 5]


def test_a_line_cannot_fill_the_memory(tmp_path):
    reader = CommitReader(BlobStore(tmp_path).receive, Limits())
    with pytest.raises(RefusedError, match="longer than") as caught:
        for _ in range(100):
            reader.feed(b'{"key":"' + b"x" * (LINE_BYTES // 10))
    assert caught.value.status == 413
