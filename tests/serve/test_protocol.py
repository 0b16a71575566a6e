"""The registry's answers to raw requests."""

import contextlib
import hashlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from serve_runs import add, ask, commit_body, files_in

from lottapack_serve import Limits, background, bodies, revisions
from lottapack_serve.server import Running

REPO = "/api/models/org/digits"


def commit(running: Running, *operations: dict, branch: str = "main", **options: object) -> str:
    answer = ask(running.url, "POST", f"{REPO}/commit/{quote(branch, safe='')}", commit_body(*operations, **options))
    assert answer.status == 200, answer.body
    return answer.json["commitOid"]


def head(running: Running, branch: str = "main") -> str:
    return ask(running.url, "GET", f"{REPO}/revision/{branch}").json["sha"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/api/nothing-here", "/api/x/../y", "/api/", f"{REPO}/nothing", "/a/b", "/%ff"])
def test_what_it_does_not_know_is_404_in_json(shared, method, path):
    assert ask(shared.url, method, path, b"x" * 100_000 if method == "POST" else None).error == (404, "")


def test_other_methods_are_405_in_json(shared):
    assert ask(shared.url, "DELETE", "/api/whoami-v2").error == (405, "")


def test_addresses_that_are_no_text(shared):
    assert ask(shared.url, "GET", f"{REPO}/revision/%ff").error == (400, "")


@pytest.mark.parametrize(
    "path", ["../../registry.sqlite3", "..%2F..%2Fregistry.sqlite3", "%2Fetc%2Fpasswd", "a%00b", "a\\..\\b"]
)
def test_reading_never_leaves_the_repository(shared, path):
    assert ask(shared.url, "GET", f"/org/digits/resolve/main/{path}").status == 404
    assert ask(shared.url, "GET", f"{REPO}/tree/main/{path}").status == 404


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a\0b", "C:\\x", ".git/config", "a\u0308", "x" * 256])
def test_writing_never_leaves_the_repository(shared, path):
    before = head(shared)
    answer = ask(shared.url, "POST", f"{REPO}/commit/main", commit_body(add("good", b"1"), add(path, b"2")))
    assert answer.error == (400, "")
    assert (head(shared), files_in(shared.root)) == (before, [])


def test_two_contents_or_a_file_as_folder_are_refused(registry):
    body = commit_body(add("a", b"1"), add("a", b"2"))
    assert ask(registry.url, "POST", f"{REPO}/commit/main", body).error == (400, "")
    commit(registry, add("a", b"1"))
    body = commit_body(add("a/b", b"2"))
    answer = ask(registry.url, "POST", f"{REPO}/commit/main", body)
    assert answer.error == (400, "")
    assert "'a' cannot be both a file and the folder" in answer.json["error"]
    assert len(files_in(registry.root)) == 1
    commit(registry, {"key": "deletedFile", "value": {"path": "a"}}, add("a/b", b"2"))


def test_a_commit_changes_just_what_it_says(registry):
    commit(registry, add("a", b"1"), add("b/c", b"2"), add("b/d", b"3"))
    commit(
        registry,
        {"key": "lfsFile", "value": {"path": "copy", "algo": "sha256", "oid": hashlib.sha256(b"1").hexdigest()}},
        {"key": "deletedFolder", "value": {"path": "b/"}},
        add("e", b"4"),
    )
    tree = ask(registry.url, "GET", f"{REPO}/tree/main?recursive=true&expand=true").json
    assert [(one["path"], one["size"], one["lastCommit"]["title"]) for one in tree] == [
        ("a", 1, "test"), ("copy", 1, "test"), ("e", 1, "test")
    ]  # fmt: skip
    assert ask(registry.url, "GET", "/org/digits/resolve/main/copy").body == b"1"


def test_missing_paths_cannot_be_deleted_or_linked(registry):
    for key in ("deletedFile", "deletedFolder"):
        answer = ask(registry.url, "POST", f"{REPO}/commit/main", commit_body({"key": key, "value": {"path": "a"}}))
        assert answer.error == (404, "EntryNotFound")
    # Content of another repository stays private, even to those who know its hash.
    ask(registry.url, "POST", "/api/repos/create", {"name": "other", "organization": "org"})
    ask(registry.url, "POST", "/api/models/org/other/commit/main", commit_body(add("a", b"secret")))
    link = {"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": hashlib.sha256(b"secret").hexdigest()}}
    assert ask(registry.url, "POST", f"{REPO}/commit/main", commit_body(link)).error == (400, "")


def test_a_commit_that_expects_another_parent_is_412_early_and_late(registry):
    first = head(registry)
    second = commit(registry, add("a", b"1"), parent=first)
    for content in (b"2", b"x" * 3_000_000):
        answer = ask(registry.url, "POST", f"{REPO}/commit/main", commit_body(add("a", content), parent=first))
        assert answer.error == (412, "")
        assert second in answer.json["error"]
    assert head(registry) == second
    assert len(files_in(registry.root)) == 1


def test_pull_requests_and_other_types_are_refused(shared):
    assert ask(shared.url, "POST", f"{REPO}/commit/main?create_pr=1", commit_body()).error == (400, "")
    assert ask(shared.url, "POST", f"{REPO}/preupload/main?create_pr=1", {"files": []}).error == (400, "")
    for path in ("create", "move"):
        assert ask(shared.url, "POST", f"/api/repos/{path}", {"type": "dataset", "name": "a"}).error == (400, "")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'{"files": 3}', b'{"files": [{}]}', b'{"files": ["a"]}', b"\xff", b"[" * 10_000]
)
def test_bodies_that_are_not_as_expected(shared, body):
    assert ask(shared.url, "POST", f"{REPO}/preupload/main", body).error == (400, "")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": 3},
        {"name": "../x"},
        {"name": "x", "organization": "api"},
        {"name": "x", "private": 1},
        {"name": "x", "visibility": "protected"},
    ],
)
def test_repositories_that_cannot_be_made(shared, body):
    assert ask(shared.url, "POST", "/api/repos/create", body).error == (400, "")


def test_bodies_have_a_limit(shared):
    assert ask(shared.url, "POST", f"{REPO}/preupload/main", b" " * 5_000_000).error == (413, "")
    many = "&".join(f"paths={number}" for number in range(1001)).encode()
    assert ask(shared.url, "POST", f"{REPO}/paths-info/main", many).error == (413, "")


def test_limits_of_files_and_commits(tmp_path):
    limits = Limits(file_bytes=1000, commit_bytes=1500, commit_files=3)
    with background(tmp_path / "registry", limits=limits) as running:
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        files = {"files": [{"path": "a", "size": 1001}]}
        assert ask(running.url, "POST", f"{REPO}/preupload/main", files).error == (413, "")
        for operations in (
            [add("a", b"x" * 1001)],
            [add("a", b"x" * 5_000_000)],  # refused long before the whole body has arrived
            [add("a", b"x" * 1000), add("b", b"x" * 501)],
            [add(str(number), b"") for number in range(4)],
        ):
            assert ask(running.url, "POST", f"{REPO}/commit/main", commit_body(*operations)).error == (413, "")
        assert files_in(running.root) == []
        commit(running, add("a", b"x" * 1000), add("b", b"y" * 500), add("c", b""))
        assert ask(running.url, "POST", f"{REPO}/commit/main", commit_body(add("d", b""))).error == (413, "")


def test_heads_contents_and_parts(registry):
    content = bytes(range(256)) * 5000
    made = commit(registry, add("a b/ü.bin", content))
    path = "/org/digits/resolve/main/a%20b/%C3%BC.bin"
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    top = ask(registry.url, "HEAD", path)
    assert (top.status, top.body) == (200, b"")
    size = str(len(content))
    wanted = {"etag": etag, "x-linked-etag": etag, "x-repo-commit": made, "content-length": size, "x-linked-size": size}
    assert {key: top.headers[key] for key in wanted} == wanted
    assert ask(registry.url, "GET", path).body == content
    assert ask(registry.url, "GET", path.replace("main", made)).body == content
    for wanted, begin, end in (
        ("0-0", 0, 1),
        ("5-", 5, None),
        ("-7", -7, None),
        ("100-199", 100, 200),
        ("9-99999999", 9, None),
    ):
        part = ask(registry.url, "GET", path, headers={"Range": f"bytes={wanted}", "If-Range": etag})
        assert (part.status, part.body) == (206, content[begin:end])
        first = len(content) + begin if begin < 0 else begin
        assert part.headers["content-range"] == f"bytes {first}-{first + len(part.body) - 1}/{len(content)}"
    for wanted in ("lines=1-2", "bytes=1-2,4-5", "bytes=", "bytes=-", "bytes=9-3", "bytes=x-"):
        assert ask(registry.url, "GET", path, headers={"Range": wanted}).body == content
    assert ask(registry.url, "GET", path, headers={"Range": "bytes=3-", "If-Range": '"other"'}).body == content
    for wanted in (f"bytes={len(content)}-", "bytes=-0"):
        gone = ask(registry.url, "GET", path, headers={"Range": wanted})
        assert (gone.status, gone.headers["content-range"]) == (416, f"bytes */{len(content)}")
    same = ask(registry.url, "GET", path, headers={"If-None-Match": etag})
    assert (same.status, same.body) == (304, b"")
    assert ask(registry.url, "GET", path, headers={"If-None-Match": '"other"'}).body == content


def test_ranges_of_any_number(registry):
    commit(registry, add("a", b"0123456789"))
    for wanted, status, body in (
        (f"bytes={'9' * 5000}-", 416, None), (f"bytes=-{'9' * 5000}", 200, b"0123456789"),
        (f"bytes=2-{'9' * 5000}", 206, b"23456789"), (f"bytes={'0' * 5000}3-4", 206, b"34"),
        (f"bytes={'9' * 19}-{'9' * 5000}", 416, None), ("bytes=\u00b2-", 200, b"0123456789"), ("bytes=--1", 200, None),
        ("bytes=+1-2", 200, None), ("bytes=1_0-", 200, None),
    ):  # fmt: skip
        answer = ask(registry.url, "GET", "/org/digits/resolve/main/a", headers={"Range": wanted})
        assert answer.status == status, wanted[:30]
        assert body is None or answer.body == body
    # HEAD describes the whole file, since ranges apply to GET only.
    head = ask(registry.url, "HEAD", "/org/digits/resolve/main/a", headers={"Range": "bytes=1-2"})
    assert (head.status, head.headers["content-length"]) == (200, "10")
    for header in ("*", 'W/"{}"', '"x", "{}"'):
        etag = header.format(hashlib.sha256(b"0123456789").hexdigest())
        assert ask(registry.url, "GET", "/org/digits/resolve/main/a", headers={"If-None-Match": etag}).status == 304


def test_repositories_without_an_owner_or_of_another_type_are_not_there(shared):
    """Clients then report that it does not exist."""
    for path in ("/api/models/gpt2", "/api/models/gpt2/revision/main", "/api/models/gpt2/tree/main",
                 "/api/models/gpt2/refs", "/gpt2/resolve/main/config.json", "/api/datasets/org/digits",
                 "/api/datasets/digits", "/api/spaces/org/digits/revision/main",
                 "/datasets/org/digits/resolve/main/a"):  # fmt: skip
        assert ask(shared.url, "GET", path).error == (404, "RepoNotFound"), path


def test_a_folder_can_be_deleted_by_its_name_alone(registry):
    for key, path in (("deletedFile", "d"), ("deletedFile", "d/"), ("deletedFolder", "d"), ("deletedFolder", "d/")):
        commit(registry, add("d/a", b"1"), add("d/b/c", b"2"), add("da", b"3"))
        commit(registry, {"key": key, "value": {"path": path}})
        assert [one["path"] for one in ask(registry.url, "GET", f"{REPO}/tree/main?recursive=true").json] == ["da"]
    answer = ask(
        registry.url, "POST", f"{REPO}/commit/main", commit_body({"key": "deletedFolder", "value": {"path": "da"}})
    )
    assert answer.error == (404, "EntryNotFound")
    answer = ask(
        registry.url, "POST", f"{REPO}/commit/main", commit_body({"key": "deletedFile", "value": {"path": "da/"}})
    )
    assert answer.error == (404, "EntryNotFound")


def test_a_name_is_a_branch_or_a_tag_never_both(registry):
    first = commit(registry, add("a", b"1"))
    assert ask(registry.url, "POST", f"{REPO}/tag/main", {"tag": "v1"}).status == 200
    assert ask(registry.url, "POST", f"{REPO}/branch/v1", {}).error == (409, "")
    assert ask(registry.url, "POST", f"{REPO}/branch/v2", {}).status == 200
    for name in ("v2", "main"):
        assert ask(registry.url, "POST", f"{REPO}/tag/main", {"tag": name}).error == (409, "")
    # Where an older registry let it happen, neither is taken for the other.
    commit(registry, add("a", b"2"))
    with contextlib.closing(sqlite3.connect(registry.root / "registry.sqlite3")) as db, db:
        db.execute(
            "INSERT INTO refs SELECT repo, 'heads', 'v1', target FROM refs WHERE kind = 'heads' AND name = 'main'"
        )
    assert ask(registry.url, "GET", f"{REPO}/revision/v1").error == (409, "")
    assert ask(registry.url, "GET", f"{REPO}/revision/refs%2Ftags%2Fv1").json["sha"] == first
    assert ask(registry.url, "GET", f"{REPO}/revision/refs%2Fheads%2Fv1").json["sha"] == head(registry)


def test_branches_and_tags_have_a_limit(registry, monkeypatch):
    monkeypatch.setattr(revisions, "MAX_REFS", 3)
    for number, status in enumerate((200, 200, 413, 413)):
        assert ask(registry.url, "POST", f"{REPO}/tag/main", {"tag": f"v{number}"}).status == status


def test_racing_creators_all_learn_the_address(registry):
    """One client creates it; the others learn that it exists, and its address."""
    body = {"name": "raced", "organization": "org"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(registry.url, "POST", "/api/repos/create", body), range(6)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 5
    assert {answer.json["url"] for answer in answers} == {f"{registry.url}/org/raced"}


def test_histories_come_in_pages(registry):
    made = [commit(registry, add("a", b"%d" % number)) for number in range(5)]
    found, path = [], f"{REPO}/commits/main?limit=2"
    while path:
        answer = ask(registry.url, "GET", path)
        found += [one["id"] for one in answer.json]
        assert len(answer.json) <= 2
        path = answer.headers.get("link", "")[1:].partition(">")[0].removeprefix(registry.url)
    assert found[:-1] == made[::-1]
    assert ask(registry.url, "GET", f"{REPO}/commits/main?cursor=x").error == (404, "RevisionNotFound")


@pytest.mark.parametrize("sort", ["", "&sort=lastModified", "&sort=createdAt"])
def test_listings_in_any_order_have_everything_once(registry, sort):
    names = [f"m{number}" for number in range(5)]
    for name in names:
        ask(registry.url, "POST", "/api/repos/create", {"name": name, "organization": "big"})
    for name in ("m3", "m1"):
        time.sleep(0.002)
        body = commit_body(add("a", b"1"))
        assert ask(registry.url, "POST", f"/api/models/big/{name}/commit/main", body).status == 200
    found, path = [], f"/api/models?author=big&limit=2&full=true{sort}"
    while path:
        answer = ask(registry.url, "GET", path)
        found += [one["id"].removeprefix("big/") for one in answer.json]
        path = answer.headers.get("link", "")[1:].partition(">")[0].removeprefix(registry.url)
    assert sorted(found) == names
    if "Modified" in sort:
        assert found[:2] == ["m1", "m3"]
    for cursor in ("x", "x/y/z", "2024 x", "a b c"):
        answer = ask(registry.url, "GET", f"/api/models?cursor={quote(cursor)}{sort}")
        assert answer.status == (200 if not sort and cursor == "a/b" else 400), cursor


def test_a_page_ends_where_it_gets_long(registry, monkeypatch):
    monkeypatch.setattr(bodies, "PAGE_BYTES", 500)
    commit(registry, *[add(f"{number:03}", b"") for number in range(20)])
    found, path, pages = [], f"{REPO}/tree/main", 0
    while path:
        answer = ask(registry.url, "GET", path)
        found += [one["path"] for one in answer.json]
        path, pages = answer.headers.get("link", "")[1:].partition(">")[0].removeprefix(registry.url), pages + 1
    assert found == [f"{number:03}" for number in range(20)]
    assert pages > 5


def test_listings_have_files_and_cards_only_if_asked(registry):
    commit(registry, add("README.md", CARD))
    plain = ask(registry.url, "GET", "/api/models").json[0]
    assert {"siblings", "cardData"} & plain.keys() == set()
    for query in ("full=true", "expand=siblings&expand=cardData", "expand[]=siblings&expand[]=cardData"):
        found = ask(registry.url, "GET", f"/api/models?{query}").json[0]
        assert (found["siblings"], found["cardData"]["license"]) == ([{"rfilename": "README.md"}], "mit")


def test_empty_files(registry):
    commit(registry, add("empty", b""))
    got = ask(registry.url, "GET", "/org/digits/resolve/main/empty")
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"", "0")


def test_what_is_missing(registry):
    made = commit(registry, add("a", b"1"))
    gone = ask(registry.url, "GET", "/org/digits/resolve/main/b")
    assert gone.error == (404, "EntryNotFound")
    assert gone.headers["x-repo-commit"] == made
    assert ask(registry.url, "HEAD", "/org/digits/resolve/main/b").headers["x-error-code"] == "EntryNotFound"
    for path in ("/org/digits/resolve/v9/a", f"{REPO}/revision/v9", f"{REPO}/tree/v9", f"{REPO}/commits/{'0' * 40}"):
        assert ask(registry.url, "GET", path).error == (404, "RevisionNotFound")
    for path in ("/org/none/resolve/main/a", "/api/models/org/none", "/api/models/org/none/refs"):
        assert ask(registry.url, "GET", path).error == (404, "RepoNotFound")
    for branch in ("none", made):
        for path in ("commit", "preupload"):
            body = commit_body() if path == "commit" else {"files": []}
            assert ask(registry.url, "POST", f"{REPO}/{path}/{branch}", body).error == (404, "RevisionNotFound")


def test_branches_and_tags(registry):
    first = commit(registry, add("a", b"1"))
    branch = f"{REPO}/branch/{quote('feat/x', safe='')}"
    assert ask(registry.url, "POST", branch, {}).status == 200
    assert ask(registry.url, "POST", branch, {}).error == (409, "")
    second = commit(registry, add("a", b"2"), branch="feat/x")
    assert ask(registry.url, "POST", f"{REPO}/tag/feat%2Fx", {"tag": "v1"}).status == 200
    assert ask(registry.url, "POST", f"{REPO}/tag/main", {"tag": "v1"}).error == (409, "")
    assert ask(registry.url, "POST", f"{REPO}/tag/main", {"tag": "a" * 40}).error == (400, "")
    assert ask(registry.url, "POST", f"{REPO}/tag/main", {}).error == (400, "")
    assert ask(registry.url, "POST", f"{REPO}/branch/old", {"startingPoint": first}).status == 200
    refs = ask(registry.url, "GET", f"{REPO}/refs").json
    assert {one["ref"]: one["targetCommit"] for one in refs["branches"] + refs["tags"]} == {
        "refs/heads/feat/x": second, "refs/heads/main": first, "refs/heads/old": first, "refs/tags/v1": second,
    }  # fmt: skip
    assert ask(registry.url, "GET", "/org/digits/resolve/refs%2Fheads%2Ffeat%2Fx/a").body == b"2"
    assert ask(registry.url, "POST", f"{REPO}/commit/v1", commit_body()).error == (404, "RevisionNotFound")
    assert ask(registry.url, "DELETE", f"{REPO}/tag/v1").status == 200
    assert ask(registry.url, "DELETE", f"{REPO}/tag/v1").error == (404, "RevisionNotFound")
    assert ask(registry.url, "DELETE", branch).status == 200
    assert ask(registry.url, "DELETE", f"{REPO}/branch/main").error == (400, "")
    # A commit stays, whatever named it.
    assert ask(registry.url, "GET", f"/org/digits/resolve/{second}/a").body == b"2"


def test_moving_leaves_a_way(registry):
    made = commit(registry, add("a", b"1"))
    assert ask(registry.url, "POST", "/api/repos/move", {"fromRepo": "org/digits", "toRepo": "new/name"}).status == 200
    for old, new in (
        ("/org/digits/resolve/main/a", "/new/name/resolve/main/a"),
        (f"{REPO}/tree/main?recursive=true", "/api/models/new/name/tree/main?recursive=true"),
        (REPO, "/api/models/new/name"),
    ):
        answer = ask(registry.url, "GET", old)
        assert (answer.status, answer.headers["location"]) == (307, new)
        assert ask(registry.url, "GET", new).status == 200
    assert ask(registry.url, "GET", "/api/models/new/name").json["sha"] == made
    # The old name can be taken again.
    assert ask(registry.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"}).status == 200
    assert ask(registry.url, "GET", REPO).json["siblings"] == []
    taken = {"fromRepo": "org/digits", "toRepo": "new/name"}
    assert ask(registry.url, "POST", "/api/repos/move", taken).error == (409, "")
    assert ask(registry.url, "POST", "/api/repos/move", {"fromRepo": "org/digits", "toRepo": "a/.."}).error == (400, "")
    assert ask(registry.url, "POST", "/api/repos/move", {"fromRepo": "x", "toRepo": "a/b"}).error == (400, "")


def test_deleting_takes_only_what_nobody_else_has(registry):
    commit(registry, add("a", b"shared"), add("b", b"lonely"))
    ask(registry.url, "POST", "/api/repos/create", {"name": "other", "organization": "org"})
    ask(registry.url, "POST", "/api/models/org/other/commit/main", commit_body(add("c", b"shared")))
    assert len(files_in(registry.root)) == 2
    assert ask(registry.url, "DELETE", "/api/repos/delete", {"name": "digits", "organization": "org"}).status == 200
    assert ask(registry.url, "GET", REPO).error == (404, "RepoNotFound")
    assert ask(registry.url, "DELETE", "/api/repos/delete", {"name": "digits", "organization": "org"}).status == 404
    assert len(files_in(registry.root)) == 1
    assert ask(registry.url, "GET", "/org/other/resolve/main/c").body == b"shared"


def test_listings_come_in_pages(registry):
    for number in range(5):
        ask(registry.url, "POST", "/api/repos/create", {"name": f"m{number}", "organization": "big"})
    found, path = [], "/api/models?author=big&limit=2"
    while path:
        answer = ask(registry.url, "GET", path)
        found += [one["id"] for one in answer.json]
        assert len(answer.json) <= 2
        link = answer.headers.get("link", "")
        path = link[1:].partition(">")[0].removeprefix(registry.url)
    assert found == [f"big/m{number}" for number in range(5)]
    assert ask(registry.url, "GET", "/api/models?limit=x").error == (400, "")
    assert [one["id"] for one in ask(registry.url, "GET", "/api/models?search=M3").json] == ["big/m3"]


CARD = b"---\nlibrary_name: lottapack\ntags:\n- a\nlicense: mit\ndate: 2024-01-01\n---\n# Title\n"


def test_cards_are_read(registry):
    commit(registry, add("README.md", CARD))
    found = ask(registry.url, "GET", REPO).json
    assert found["cardData"] == {"library_name": "lottapack", "tags": ["a"], "license": "mit", "date": "2024-01-01"}
    assert found["tags"] == ["a", "lottapack", "license:mit"]
    assert [one["id"] for one in ask(registry.url, "GET", "/api/models?filter=lottapack&filter=a").json] == [
        "org/digits"
    ]
    assert ask(registry.url, "GET", "/api/models?filter=b").json == []


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


@pytest.mark.parametrize(
    "front",
    [
        "a: [",
        BOMB,
        "a: .nan",
        "- a",
        "text",
        "? [1]\n: 2",
        "x: " + "[" * 5000,
        "k: v\n" * 20_000,
        "!!python/object:os.system {}",
    ],
)
def test_broken_cards_are_named_and_harm_nothing(registry, front):
    text = f"---\n{front}\n---\n"
    answer = ask(registry.url, "POST", "/api/validate-yaml", {"content": text, "repoType": "model"})
    assert answer.status == 400
    assert answer.json["errors"][0]["message"]
    commit(registry, add("README.md", text.encode()))
    assert ask(registry.url, "GET", REPO).json["cardData"] == {}


def test_cards_without_front_matter_are_warned_of(registry):
    assert ask(registry.url, "POST", "/api/validate-yaml", {"content": "# x"}).json["warnings"]
    assert ask(registry.url, "POST", "/api/validate-yaml", {"content": CARD.decode()}).json == {
        "errors": [],
        "warnings": [],
    }


def test_a_lost_blob_is_said_so_and_mended_by_pushing_again(registry):
    commit(registry, add("a", b"content"))
    [name] = files_in(registry.root)
    body = {"files": [{"path": "a", "size": 7}]}
    assert ask(registry.url, "POST", f"{REPO}/preupload/main", body).json["files"][0]["oid"]
    (registry.root / name).write_bytes(b"cont")
    answer = ask(registry.url, "GET", "/org/digits/resolve/main/a")
    assert answer.error == (500, "")
    assert "lost the content of 'a'" in answer.json["error"]
    # No longer "unchanged", so that a client sends it again.
    assert ask(registry.url, "POST", f"{REPO}/preupload/main", body).json["files"][0]["oid"] is None
    commit(registry, add("a", b"content"))
    assert ask(registry.url, "GET", "/org/digits/resolve/main/a").body == b"content"
