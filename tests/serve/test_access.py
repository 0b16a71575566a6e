"""Access rights: with tokens, without, and with wrong ones."""

import hashlib
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from serve_runs import add, ask, commit_body, files_in

from lottapack.errors import AccessError, InvalidReferenceError, NetworkError, OutputError
from lottapack_serve import background, tokens
from lottapack_serve.access import is_loopback
from lottapack_serve.server import Running

ENDPOINTS = {
    "list": ("GET", "/api/models", None),
    "info": ("GET", "/api/models/org/public", None),
    "refs": ("GET", "/api/models/org/public/refs", None),
    "file": ("GET", "/org/public/resolve/main/a", None),
    "paths": ("POST", "/api/models/org/public/paths-info/main", b"paths=a"),
    "private info": ("GET", "/api/models/org/private", None),
    "private file": ("GET", "/org/private/resolve/main/a", None),
    "private tree": ("GET", "/api/models/org/private/tree/main", None),
    "missing": ("GET", "/api/models/org/missing", None),
    "whoami": ("GET", "/api/whoami-v2", None),
    "create": ("POST", "/api/repos/create", {"name": "public", "organization": "org"}),
    "preupload": ("POST", "/api/models/org/public/preupload/main", {"files": []}),
    "commit": ("POST", "/api/models/org/public/commit/main", commit_body(add("a", b"1"))),
    "commit to private": ("POST", "/api/models/org/private/commit/main", commit_body(add("a", b"1"))),
    "tag": ("POST", "/api/models/org/public/tag/main", {"tag": "new"}),
    "untag": ("DELETE", "/api/models/org/public/tag/new", None),
    "settings": ("PUT", "/api/models/org/public/settings", {"private": False}),
    "write check": ("GET", "/api/models/org/public/auth-check/write", None),
    "move": ("POST", "/api/repos/move", {"fromRepo": "org/public", "toRepo": "org/private"}),
    "delete": ("DELETE", "/api/repos/delete", {"name": "gone", "organization": "org"}),
}
READS = ("list", "info", "refs", "file", "paths")
HIDDEN = ("private info", "private file", "private tree")
DONE = {"create": 409, "move": 409, "delete": 404, "missing": 404}
"""What those get who may do it; 200 where not listed."""


def expected(who: str, endpoint: str, anonymous_read: bool) -> int:
    if who == "wrong":
        return 401
    if who == "write" or (endpoint in READS and (who == "read" or anonymous_read)):
        return DONE.get(endpoint, 200)
    if who == "read":
        return {"whoami": 200, "missing": 404}.get(endpoint, 200 if endpoint in HIDDEN else 403)
    return 401


@pytest.fixture(scope="module", params=[True, False], ids=["anonymous read", "no anonymous read"])
def guarded(request, tmp_path_factory) -> Iterator[tuple[Running, dict[str, str], bool]]:
    root = tmp_path_factory.mktemp("guarded") / "registry"
    texts = {"write": tokens.add(root, "al", "write"), "read": tokens.add(root, "bo"), "wrong": "lotta_x", "nobody": ""}
    with background(root, anonymous_read=request.param) as running:
        for name in ("public", "private"):
            body = {"name": name, "organization": "org", "visibility": name}
            assert ask(running.url, "POST", "/api/repos/create", body, token=texts["write"]).status == 200
            path = f"/api/models/org/{name}/commit/main"
            assert ask(running.url, "POST", path, commit_body(add("a", b"1")), token=texts["write"]).status == 200
        yield running, texts, request.param


@pytest.mark.parametrize("who", ["write", "read", "wrong", "nobody"])
def test_everyone_gets_what_they_may(guarded, who):
    running, texts, anonymous_read = guarded
    got = {name: ask(running.url, *request, token=texts[who]).status for name, request in ENDPOINTS.items()}
    assert got == {name: expected(who, name, anonymous_read) for name in ENDPOINTS}


def test_the_private_is_not_told_from_the_missing(guarded):
    running, _, _ = guarded
    for path in ("/api/models/org/{}", "/org/{}/resolve/main/a", "/api/models/org/{}/tree/main"):
        private, missing = (ask(running.url, "GET", path.format(name)) for name in ("private", "missing"))
        assert private.status == missing.status == 401
        assert private.body.replace(b"private", b"missing") == missing.body
        assert private.headers.get("x-error-code") == missing.headers.get("x-error-code")


def test_listings_hide_the_private(guarded):
    running, texts, anonymous_read = guarded
    assert [one["id"] for one in ask(running.url, "GET", "/api/models", token=texts["read"]).json] == [
        "org/private", "org/public"
    ]  # fmt: skip
    if anonymous_read:
        assert [one["id"] for one in ask(running.url, "GET", "/api/models").json] == ["org/public"]


def test_a_wrong_token_is_told_in_words_that_clients_know(guarded):
    running, _, _ = guarded
    answer = ask(running.url, "GET", "/api/models/org/public", token="lotta_x")
    assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"
    for header in ("Basic YTpi", "Bearer", "lotta_x"):
        assert ask(running.url, "GET", "/api/models", headers={"Authorization": header}).error == (401, "")


def test_whoami(guarded):
    running, texts, _ = guarded
    for right, name in (("write", "al"), ("read", "bo")):
        found = ask(running.url, "GET", "/api/whoami-v2", token=texts[right]).json
        assert (found["name"], found["auth"]["accessToken"]["role"]) == (name, right)


def test_tokens_count_and_stop_counting_at_once(registry):
    commit = "/api/models/org/digits/commit/main"
    assert ask(registry.url, "POST", commit, commit_body()).status == 200
    text = registry.token("al", "write")
    assert ask(registry.url, "POST", commit, commit_body()).status == 401
    assert ask(registry.url, "POST", commit, commit_body(), token=text).status == 200
    tokens.add(registry.root, "bo")
    tokens.remove(registry.root, "al")
    assert ask(registry.url, "POST", commit, commit_body(), token=text).status == 401
    history = ask(registry.url, "GET", "/api/models/org/digits/commits/main").json
    assert [one["authors"][0]["user"] for one in history] == ["al", "local", "local"]


def test_tokens_are_kept_as_hashes_only(tmp_path):
    text = tokens.add(tmp_path, "al", "write")
    assert text.startswith("lotta_")
    assert [(token.name, token.rights) for token in tokens.listed(tmp_path)] == [("al", "write")]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.encode() not in stored
    with closing(sqlite3.connect(tmp_path / "registry.sqlite3")) as db:
        assert len(db.execute("SELECT sha256 FROM tokens").fetchone()[0]) == 64
    with pytest.raises(OutputError, match="al already has a token"):
        tokens.add(tmp_path, "al")
    with pytest.raises(InvalidReferenceError, match="cannot be the name"):
        tokens.add(tmp_path, "../x")
    with pytest.raises(OutputError, match="bo does not have a token"):
        tokens.remove(tmp_path, "bo")


FOREIGN = [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Referer": "http://evil.example/"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"X-Forwarded-For": "192.0.2.7"},
    {"X-Forwarded-Host": "evil.example"}, {"X-Forwarded-Proto": "https"}, {"Forwarded": "for=192.0.2.7"},
    {"Via": "1.1 proxy"}, {"X-Real-IP": "192.0.2.7"}, {"CF-Connecting-IP": "192.0.2.7"}, {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example"}, {"Host": "localhost."}, {"Host": "192.0.2.7"}, {"Host": "[2001:db8::1]:80"},
    {"Host": "0.0.0.0"},
]  # fmt: skip
NO_HOST = ["", " ", "[::1", "::1", "x@127.0.0.1", "evil.example#@127.0.0.1", "evil.example\\@127.0.0.1", "127.0.0.1/x",
           "127.0.0.1:", "127.0.0.1:x", "127.0.0.1, evil.example", "127.0.0.1 evil.example", "localhost?x", "%31",
           "localhost:123456", "\u00fc.example"]  # fmt: skip
OWN = ["127.0.0.1", "127.9.9.9:80", "localhost", "LOCALHOST:8780", "[::1]:80", "[::ffff:127.0.0.1]"]
ASKED = [
    ("GET", "/api/models", None),
    ("GET", "/api/models/org/digits", None),
    ("GET", "/org/digits/resolve/main/a", None),
    ("POST", "/api/models/org/digits/paths-info/main", b"paths=a"),
    ("POST", "/api/validate-yaml", {"content": ""}),
    ("GET", "/api/models/org/digits/auth-check", None),
    ("GET", "/api/whoami-v2", None),
    ("POST", "/api/models/org/digits/commit/main", commit_body()),
    ("POST", "/api/models/org/digits/preupload/main", {"files": []}),
    ("PUT", "/api/models/org/digits/settings", {"private": True}),
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_without_tokens_only_programs_of_this_machine_are_answered(registry, headers):
    """Refuse web pages in a local browser (DNS rebinding) and requests through a proxy."""
    assert ask(registry.url, "POST", "/api/models/org/digits/commit/main", commit_body(add("a", b"1"))).status == 200
    for request in ASKED:
        answer = ask(registry.url, *request, headers=headers)
        assert answer.error == (403, ""), request
        assert "digits" not in answer.json["error"]
    text = registry.token("al", "write")
    for request in ASKED:
        assert ask(registry.url, *request, headers=headers, token=text).status == 200, request


def test_without_tokens_its_own_pages_may_read(registry):
    """The browser says which site a page is of; the page itself cannot."""
    page = {"Sec-Fetch-Site": "same-origin", "Referer": f"{registry.url}/org/digits"}
    for method, path, body in ASKED:
        refused = ask(registry.url, method, path, body, headers=page).status == 403
        assert refused == (method != "GET"), path
    for more in ({"Host": "evil.example"}, {"Via": "1.1 proxy"}, {"X-Forwarded-For": "192.0.2.7"}):
        assert ask(registry.url, "GET", "/api/models", headers={**page, **more}).error == (403, "")


@pytest.mark.parametrize("host", NO_HOST, ids=repr)
def test_what_is_no_host_is_refused_with_tokens_too(registry, host):
    for token in ("", registry.token("al", "write")):
        for path in ("/", "/api/models", "/api/nothing", "/org/digits/resolve/main/a"):
            answer = ask(
                registry.url, "GET", path, headers={"Host": host.encode("utf-8").decode("latin-1")}, token=token
            )
            assert answer.status == 400, (path, answer)


@pytest.mark.parametrize("host", OWN)
def test_names_of_the_loopback_are_answered(registry, host):
    assert [ask(registry.url, *request, headers={"Host": host}).status for request in ASKED] == [200, 200, 404] + [
        200
    ] * 7


def test_further_names_of_the_host_can_be_allowed(tmp_path):
    with background(tmp_path / "registry", hosts=["Box.example"]) as running:
        for host, status in (("box.example:80", 200), ("localhost", 200), ("other.example", 403)):
            assert ask(running.url, "GET", "/api/models", headers={"Host": host}).status == status
        page = {"Host": "box.example", "Origin": "http://box.example"}
        assert ask(running.url, "GET", "/api/models", headers=page).status == 403
        text = running.token("al", "write")
        for host, status in (("box.example:80", 200), ("localhost", 200), ("other.example", 403)):
            assert ask(running.url, "GET", "/api/models", headers={"Host": host}, token=text).status == status


def remove(running: Running, text: str) -> None:
    tokens.remove(running.root, "al")


def take_rights(running: Running, text: str) -> None:
    tokens.remove(running.root, "al")
    with closing(sqlite3.connect(running.root / "registry.sqlite3")) as db, db:
        digest = hashlib.sha256(text.encode()).hexdigest()
        db.execute("INSERT INTO tokens VALUES ('al', ?, 'read', '')", (digest,))


def delete_repo(running: Running, text: str) -> None:
    body = {"name": "digits", "organization": "org"}
    assert ask(running.url, "DELETE", "/api/repos/delete", body, token=text).status == 200


def replace_repo(running: Running, text: str) -> None:
    delete_repo(running, text)
    assert (
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"}, token=text).status
        == 200
    )


def delete_branch(running: Running, text: str) -> None:
    assert ask(running.url, "DELETE", "/api/models/org/digits/branch/work", token=text).status == 200


def hide_repo(running: Running, text: str) -> None:
    assert ask(running.url, "PUT", "/api/models/org/digits/settings", {"private": True}, token=text).status == 200


MEANWHILE = {
    "token removed": (remove, 401), "token may read only": (take_rights, 403), "repository deleted": (delete_repo, 404),
    "another repository of that name": (replace_repo, 404), "branch deleted": (delete_branch, 404),
    "made private": (hide_repo, 200),
}  # fmt: skip


@pytest.mark.parametrize("branch", ["work", "main"])
@pytest.mark.parametrize(("change", "status"), MEANWHILE.values(), ids=MEANWHILE)
def test_rights_are_those_of_the_moment_of_the_commit(registry, change, status, branch):
    status = 200 if (change, branch) == (delete_branch, "main") else status
    text = registry.token("al", "write")
    other = registry.token("bo", "write")
    assert ask(registry.url, "POST", "/api/models/org/digits/branch/work", {}, token=text).status == 200
    body = commit_body(add("a", b"1"))
    host, port = registry.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        address = f"/api/models/org/digits/commit/{branch}"
        head = f"POST {address} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {text}"
        connection.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body[:20])
        time.sleep(0.2)
        change(registry, text)
        connection.sendall(body[20:])
        assert int(connection.recv(1000).split()[1]) == status
    there = ask(registry.url, "GET", f"/org/digits/resolve/{branch}/a", token=other).status
    assert there == (200 if status == 200 else 404)
    assert len(files_in(registry.root)) == (status == 200)


def test_a_first_token_counts_for_uploads_that_have_begun(registry):
    body = commit_body(add("a", b"1"))
    host, port = registry.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        head = (
            "POST /api/models/org/digits/commit/main HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {len(body)}",
            "",
            "",
        )
        connection.sendall("\r\n".join(head).encode() + body[:20])
        time.sleep(0.2)
        registry.token("al", "write")
        connection.sendall(body[20:])
        assert int(connection.recv(1000).split()[1]) == 401


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", "/api/validate-yaml", b'{"content":"'), ("POST", "/api/models/org/public/paths-info/main", b"paths="),
    ("POST", "/api/models/org/public/preupload/main", b'{"files":['), ("POST", "/api/repos/create", b'{"name":"'),
    ("POST", "/api/models/org/public/tag/main", b'{"tag":"'), ("POST", "/api/models/org/public/commit/main", b"{"),
])  # fmt: skip
def test_who_asks_is_known_before_a_body_is_read(guarded, method, path, body):
    """A refusal does not wait for the body."""
    running, texts, anonymous_read = guarded
    host, port = running.url.removeprefix("http://").split(":")
    for who in ("nobody", "wrong"):
        with socket.create_connection((host, int(port)), timeout=300) as connection:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
            lines += [f"Authorization: Bearer {texts[who]}"] * bool(texts[who])
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            status = int(connection.recv(1000).split()[1])
        may = who == "nobody" and anonymous_read and path.endswith(("validate-yaml", "paths-info/main"))
        assert status == (401 if not may else 200 if body == b"paths=" else 400)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_addresses_of_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", "127.0.0.1.evil.example", ""])
def test_addresses_of_others(host):
    assert not is_loopback(host)


def test_no_port_is_opened_to_others_without_tokens(tmp_path):
    with (
        pytest.raises(AccessError, match=r"anyone could write to it\nCreate a token first"),
        background(tmp_path, host="0.0.0.0"),
    ):
        pass
    text = tokens.add(tmp_path, "al", "write")
    with background(tmp_path, host="0.0.0.0") as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        body = {"name": "x"}
        assert ask(url, "POST", "/api/repos/create", body).status == 401
        assert ask(url, "POST", "/api/repos/create", body, token=text).status == 200
        # Removing the last token does not open the registry, as a start on loopback would.
        tokens.remove(tmp_path, "al")
        assert ask(url, "POST", "/api/repos/create", body).status == 401


def test_one_server_a_folder_and_a_port(tmp_path, registry):
    with pytest.raises(OutputError, match="another process already serves"), background(registry.root):
        pass
    port = int(registry.url.rpartition(":")[2])
    with (
        pytest.raises(NetworkError, match=f"cannot listen on 127.0.0.1, port {port}"),
        background(tmp_path / "other", port=port),
    ):
        pass


def test_behind_a_proxy_with_tls_addresses_are_the_proxys(registry):
    text = registry.token("al", "write")
    headers = {"Host": "hub.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
    body = {"name": "x", "organization": "org"}
    made = ask(registry.url, "POST", "/api/repos/create", body, token=text, headers=headers)
    assert made.json["url"] == "https://hub.example.org/org/x"


def test_it_listens_to_ipv6(tmp_path):
    try:
        with background(tmp_path / "registry", host="::1") as running:
            assert running.url.startswith("http://[::1]:")
            with urllib.request.urlopen(running.url, timeout=300) as answer:
                assert f"HF_ENDPOINT={running.url}" in answer.read().decode()
            made = urllib.request.Request(f"{running.url}/api/repos/create", b'{"name": "x"}', method="POST")
            with urllib.request.urlopen(made, timeout=300) as answer:
                assert answer.status == 200
    except NetworkError as fault:
        pytest.skip(f"no IPv6 here: {fault.message}")
