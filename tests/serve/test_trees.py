"""Files and folders of commits: paged listings are complete and cost their own length."""

import random
import sqlite3
from urllib.parse import quote

import pytest
from effort import ends
from serve_runs import add, ask, commit_body

from lottapack_serve import Limits, background, repos
from lottapack_serve.database import Database

REPO = "/api/models/org/digits"


def pages(url: str, path: str) -> list[dict]:
    """Return all entries of a listing by following its links."""
    found, count = [], 0
    while path:
        answer = ask(url, "GET", path)
        assert answer.status == 200, answer.body
        found += answer.json
        path = answer.headers.get("link", "")[1:].partition(">")[0].removeprefix(url)
        count += 1
        assert count < 1000
    return found


def commit(url: str, *operations: dict) -> str:
    answer = ask(url, "POST", f"{REPO}/commit/main", commit_body(*operations))
    assert answer.status == 200, answer.body
    return answer.json["commitOid"]


def folders_of(paths: set[str]) -> set[str]:
    return {"/".join(parts[:end]) for parts in (path.split("/") for path in paths) for end in range(1, len(parts))}


NAMES = ["a", "b", "a-", "a.b", "a0", "A", "ü", "😀", "a b", "~", "z"]


@pytest.mark.parametrize("seed", range(3))
def test_every_listing_is_what_the_commits_made(registry, seed):
    """Random changes; after each, every listing in pages of 1 and 3 against a plain dictionary."""
    draw = random.Random(seed)
    files: dict[str, str] = {}
    changed: dict[str, str] = {}
    for number in range(6):
        operations, new = [], dict(files)
        for _ in range(draw.randrange(1, 7)):
            path = "/".join(draw.choice(NAMES) for _ in range(draw.randrange(1, 4)))
            folders = folders_of(set(new))
            if path in folders or folders_of({path}) & set(new) or f"{path} {number}" in new.values():
                continue
            operations.append(add(path, f"{path} {number}".encode()))
            new[path] = f"{path} {number}"
        if files and draw.random() < 0.5:
            gone = draw.choice(sorted(files))
            if new[gone] == files[gone]:
                operations.append({"key": "deletedFile", "value": {"path": gone}})
                del new[gone]
        before = folders_of(set(files)), files
        made = commit(registry.url, *operations)
        files = new
        for path in [*files, *folders_of(set(files))]:
            here = {one: text for one, text in files.items() if one == path or one.startswith(f"{path}/")}
            there = {one: text for one, text in before[1].items() if one == path or one.startswith(f"{path}/")}
            if here != there:
                changed[path] = made
        folders = folders_of(set(files))
        for folder in ["", *folders]:
            below = {path for path in {*files, *folders} if not folder or path.startswith(f"{folder}/")}
            inside = {path for path in below if "/" not in path.removeprefix(f"{folder}/" if folder else "")}
            address = f"{REPO}/tree/main" + (f"/{quote(folder)}" if folder else "")
            for limit in (1, 3):
                for query, wanted in (("", inside), ("&recursive=true", below)):
                    got = pages(registry.url, f"{address}?limit={limit}{query}")
                    assert sorted(one["path"] for one in got) == sorted(wanted)
            expanded = pages(registry.url, f"{address}?recursive=true&expand=true")
            assert {one["path"]: one["lastCommit"]["id"] for one in expanded} == {path: changed[path] for path in below}
            assert all((one["type"] == "file") == (one["path"] in files) for one in expanded)
        some = [*files, *folders, "none"]
        found = ask(
            registry.url, "POST", f"{REPO}/paths-info/main", "&".join(f"paths={quote(p)}" for p in some).encode()
        )
        assert [one["path"] for one in found.json] == sorted({*files, *folders})
        siblings = ask(registry.url, "GET", REPO).json["siblings"]
        assert [one["rfilename"] for one in siblings] == sorted(files)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("sort", ["", "updated", "created"])
@pytest.mark.parametrize("after", ["", "a"])
def test_listings_of_repositories_walk_an_index(tmp_path, private, sort, after):
    """A page then costs its own length, for any number of repositories."""
    after = after and {"": "a/b"}.get(sort, "2026 5")
    plans: list[str] = []

    class Explained:
        def execute(self, query: str, values: tuple[object, ...]) -> sqlite3.Cursor:
            plans.extend(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values))
            return db.execute(query, values)

    with Database(tmp_path).read() as db:
        wanted = repos.Wanted(private, sort=sort, after=after)
        assert repos.listed(Explained(), wanted, 10) == []  # type: ignore[arg-type]
    assert "USING" in plans[0] and "INDEX" in plans[0]
    assert not [line for line in plans if "TEMP B-TREE" in line or (line.startswith("SCAN") and "INDEX" not in line)]


def test_too_many_folders_and_too_deep_paths_are_refused(tmp_path):
    with background(tmp_path / "registry", limits=Limits(commit_folders=10)) as running:
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        path = f"{REPO}/commit/main"
        wide = [add(f"{number}/f", b"") for number in range(11)]
        assert ask(running.url, "POST", path, commit_body(*wide)).error == (413, "")
        assert ask(running.url, "POST", path, commit_body(*wide[:10])).status == 200
        assert ask(running.url, "POST", path, commit_body(wide[10])).error == (413, "")
        for depth, status in ((32, 413), (33, 400)):
            assert ask(running.url, "POST", path, commit_body(add("a/" * (depth - 1) + "f", b""))).status == status


def test_what_anyone_may_ask_at_the_limits_of_a_commit_is_answered_soon(tmp_path):
    limits = Limits()
    depth = 31
    chains = limits.commit_folders // depth
    paths = ["/".join([f"{chain}-" + "x" * 20, *["y"] * (depth - 1), "f"]) for chain in range(chains)]
    paths += [f"{'z' * 200}{number:05}" for number in range(limits.commit_files - chains)]
    with background(tmp_path / "registry") as running:
        ask(running.url, "POST", "/api/repos/create", {"name": "digits", "organization": "org"})
        card = b"---\nx: [" + b"a," * 9000 + b"]\n---\n"
        commit(running.url, *[add(path, b"") for path in paths[:-1]], add("README.md", card))
        folder = quote(paths[0].rpartition("/")[0])
        asked = "&".join(f"paths={quote(path)}" for path in paths[:1000]).encode()
        requests = {
            **{f"tree{query}": ("GET", f"{REPO}/tree/main{query}", None)
               for query in ("", "?limit=1", "?recursive=true", "?recursive=true&expand=true", "?expand=true",
                             f"/{folder}", f"/{folder}?recursive=true", "?recursive=true&cursor=zz")},
            "paths": ("POST", f"{REPO}/paths-info/main", asked),
            "paths expanded": ("POST", f"{REPO}/paths-info/main", asked + b"&expand=true"),
            "one path": ("POST", f"{REPO}/paths-info/main", b"paths=f"),
            "info": ("GET", REPO, None),
            "list": ("GET", "/api/models?full=true", None),
            "file": ("GET", f"/org/digits/resolve/main/{quote(paths[0])}", None),
            "commits": ("GET", f"{REPO}/commits/main", None),
            "refs": ("GET", f"{REPO}/refs", None),
            "card": ("POST", "/api/validate-yaml", {"content": card.decode()}),
        }  # fmt: skip
        for name, request in requests.items():
            with ends():
                assert ask(running.url, *request).status == 200, name
