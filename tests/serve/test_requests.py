"""Any request gets a JSON answer below 500 and leaves the registry unchanged for others."""

import http.client
import json
from collections.abc import Iterator

import pytest
from extent import extent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_runs import add, ask, commit_body
from starlette.routing import Route

from lottapack_serve import background, tokens
from lottapack_serve.routes import account, commit, models, refs, repos, resolve
from lottapack_serve.server import Running

ROUTES: list[Route] = [
    *account.ROUTES, *repos.ROUTES, *models.ROUTES, *refs.ROUTES, *commit.ROUTES, *resolve.ROUTES,
]  # fmt: skip

ODD = st.one_of(
    st.sampled_from(
        ["", "main", "org", "digits", "a", "README.md", "v1", "refs%2Fheads%2Fmain", "%00", "%ff", "%ed%a0%80",
         "%2e%2e", "..", ".", "%2F", "a%2F", "%F0%9F%98%80", "0" * 40, "9" * 5000, "-1", "1e999", "x" * 2000, "'", '"',
         "%25", "%0d%0a", "[::1", "True", "null", "a/b", "a b|1", "2024 9999999999999999999", "\xe9"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=20),
)  # fmt: skip
QUERY_NAMES = st.sampled_from(
    ["limit", "cursor", "sort", "filter", "author", "search", "full", "cardData", "expand", "expand[]", "recursive",
     "create_pr", "pipeline_tag", "blobs", "x"]
)  # fmt: skip
HEADER_NAMES = st.sampled_from(
    ["Range", "If-Range", "If-None-Match", "Content-Type", "Host", "Accept", "Accept-Encoding", "X-Forwarded-Proto",
     "X-Forwarded-For", "Cookie", "Expect", "Content-Encoding", "Origin", "Upgrade"]
)  # fmt: skip
HEADER_VALUES = st.one_of(
    st.sampled_from(
        ["bytes=0-", "bytes=-1", f"bytes={'9' * 5000}-", "bytes=5-2", "bytes=0-0,2-3", "*", '"x"', "application/json",
         "application/x-www-form-urlencoded", "multipart/form-data", "[::1", "x@y", "identity", "100-continue",
         "websocket", "https", "javascript", "1.2.3.4", "9" * 5000]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
)  # fmt: skip
NAMES = ["name", "organization", "type", "private", "visibility", "gated", "fromRepo", "toRepo", "tag", "startingPoint",
         "paths", "expand", "files", "content", "path", "size", "key", "value", "summary", "encoding", "oid",
         "parentCommit", "description"]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["org", "digits", "org/digits", "main", "v1", "a", "\ud800", "\0", "header", "file", "deletedFile",
                     "deletedFolder", "lfsFile", "base64", "QUFB", 10**400, 2**63, -1]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=8,
)
RAW = st.one_of(
    st.sampled_from([b"", b"{", b"[" * 50_000, b'{"files":[{"path":"a","size":1e999}]}', b'{"name":"\\ud800"}', b"\xff",
                     b"a=&" * 3000, b"paths=%ff&expand=%00", b"paths", b"\xef\xbb\xbf{}",
                     b'{"paths":["a"],"expand":[]}']),
    st.binary(max_size=60),
)  # fmt: skip


def to_json(value: object) -> bytes:
    """Return JSON as a hostile client writes it, with NaN, surrogates and huge numbers."""
    return json.dumps(value).encode()


BODIES = st.one_of(
    RAW,
    VALUES.map(to_json),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5).map(to_json),
    st.lists(VALUES, max_size=4).map(lambda lines: b"\n".join([to_json({"key": "header", "value": {"summary": "s"}}),
                                                               *map(to_json, lines)])),
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Return method, path, body and headers close to valid ones."""
    route = draw(st.sampled_from(ROUTES))
    method = draw(
        st.sampled_from([*(route.methods or ["GET"])] * 4 + ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"])
    )
    path = route.path
    for name in route.param_convertors:
        usual = {"owner": "org", "name": "digits", "branch": "main", "revision": "main", "path": "a"}[name]
        value = usual if draw(st.booleans()) else draw(ODD)
        path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
    query = draw(st.lists(st.tuples(QUERY_NAMES, ODD), max_size=3))
    if query:
        path += "?" + "&".join(f"{name}={value}" for name, value in query)
    headers = dict(draw(st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=2)))
    return method, path, draw(st.none() | BODIES), headers


@pytest.fixture(scope="module", params=["with tokens", "without"])
def served(request, tmp_path_factory) -> Iterator[tuple[Running, str]]:
    root = tmp_path_factory.mktemp("requests") / "registry"
    text = tokens.add(root, "al", "write") if request.param == "with tokens" else ""
    with background(root) as running:
        yield running, text


def restore(running: Running, text: str) -> None:
    """Restore the repository that the requests use."""
    body = {"name": "digits", "organization": "org"}
    if ask(running.url, "POST", "/api/repos/create", body, token=text).status == 200:
        files = commit_body(add("a", b"1"), add("README.md", b"---\ntags: [a]\n---\n"), add("d/e", b""))
        assert ask(running.url, "POST", "/api/models/org/digits/commit/main", files, token=text).status == 200


@settings(max_examples=extent(150, 400), deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=requests(), with_token=st.booleans())
def test_no_request_is_answered_by_a_failure(served, asked, with_token):
    running, text = served
    method, path, body, headers = asked
    restore(running, text)
    try:
        answer = ask(running.url, method, path.encode("latin-1", "ignore").decode("latin-1"), body,
                     token=text if with_token else "", headers=headers)  # fmt: skip
    except (http.client.HTTPException, ValueError, UnicodeError):
        return  # this client cannot ask it
    assert answer.status < 500, answer
    if method != "HEAD" and answer.status >= 400 and answer.headers.get("content-type") == "application/json":
        json.loads(answer.body)
    assert ask(running.url, "GET", "/api/models?full=true", token=text).status == 200
