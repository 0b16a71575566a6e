"""Registries of older layouts gain what today's listings need when opened, bad cards included."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from serve_runs import add, ask, commit_body

from lottapack.errors import UnsupportedError
from lottapack_serve import background, check, repos
from lottapack_serve.database import FILE, Database

REPO = "/api/models/org/digits"
OLD = """
CREATE TABLE files (
    revision INTEGER NOT NULL REFERENCES commits ON DELETE CASCADE, path TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES blobs, changed INTEGER NOT NULL REFERENCES commits,
    PRIMARY KEY (revision, path)) WITHOUT ROWID;
CREATE INDEX files_by_blob ON files (sha256);
CREATE INDEX files_by_change ON files (changed);
INSERT INTO files SELECT revision, iif(folder = '', '', folder || '/') || name, sha256, changed FROM entries
    WHERE sha256 IS NOT NULL;
DROP TABLE entries; DROP TABLE cards; DROP TABLE topics;
DROP INDEX repos_in_public; DROP INDEX repos_by_update; DROP INDEX repos_by_creation;
DROP INDEX repos_in_public_by_update; DROP INDEX repos_in_public_by_creation;
ALTER TABLE repos DROP COLUMN updated;
PRAGMA user_version = 1;
"""
"""What layout 1 had, and nothing of what came later."""


def everything(url: str) -> object:
    paths = ["/api/models", "/api/models?filter=t", "/api/models?sort=lastModified", REPO, f"{REPO}/commits/main",
             f"{REPO}/tree/main?recursive=true&expand=true", f"{REPO}/tree/first?recursive=true&expand=true",
             f"{REPO}/tree/main/a?expand=true"]  # fmt: skip
    answers = [ask(url, "GET", path) for path in paths]
    assert [answer.status for answer in answers] == [200] * len(paths)
    return [json.loads(answer.body.replace(url.encode(), b"")) for answer in answers]


def test_a_registry_of_layout_1_becomes_one_of_today(tmp_path):
    root = tmp_path / "registry"
    with background(root) as running:
        for name in ("digits", "bad", "lost"):
            ask(running.url, "POST", "/api/repos/create", {"name": name, "organization": "org"})
        bodies = [
            ("digits", commit_body(add("README.md", b"---\ntags: [t]\n---\n"), add("a/b/c", b"1"), add("a/d", b"2"))),
            ("bad", commit_body(add("README.md", b'---\nx: !!int ""\ntags: ["\\uDC00"]\n---\n'))),
            ("lost", commit_body(add("README.md", b"---\ntags: [lost]\n---\n"))),
        ]
        for name, body in bodies:
            assert ask(running.url, "POST", f"/api/models/org/{name}/commit/main", body).status == 200
        assert ask(running.url, "POST", f"{REPO}/tag/main", {"tag": "first"}).status == 200
        body = commit_body(add("a/b/c", b"3"), {"key": "deletedFile", "value": {"path": "a/d"}})
        assert ask(running.url, "POST", f"{REPO}/commit/main", body).status == 200
        before = everything(running.url)
    with closing(sqlite3.connect(root / FILE)) as db:
        db.executescript(OLD)
        [lost] = [row[0] for row in db.execute(
            "SELECT files.sha256 FROM files JOIN commits ON revision = number JOIN repos ON repos.id = repo "
            "WHERE name = 'lost'")]  # fmt: skip
    (root / "blobs" / lost[:2] / lost).unlink()
    shutil.copytree(root, tmp_path / "copy")
    with background(root) as running:
        after = everything(running.url)
        lists = [[{**one, "tags": []} for one in listing] for listing in (before[0], after[0])]
        assert lists[0] == lists[1]
        assert [one["id"] for one in after[0]] == ["org/bad", "org/digits", "org/lost"]
        assert (after[1:2], after[3:]) == (before[1:2], before[3:])
        body = commit_body(add("new", b"4"))
        assert ask(running.url, "POST", f"{REPO}/commit/main", body).status == 200
        assert ask(running.url, "DELETE", "/api/repos/delete", {"name": "bad", "organization": "org"}).status == 200
    assert [(one.fault, one.files) for one in check(root).damaged] == [("missing", ("org/lost: README.md",))]
    # Also by a command that only opens the index.
    assert len(check(tmp_path / "copy").damaged) == 1


def test_a_newer_layout_is_left_alone(tmp_path):
    Database(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("PRAGMA user_version = 3")
    with pytest.raises(UnsupportedError, match="has layout 3, but this lottapack knows 2"):
        Database(tmp_path)


def test_a_number_of_a_deleted_repository_is_not_given_again(tmp_path):
    with Database(tmp_path).write() as db:
        numbers = []
        for _ in range(3):
            repo = repos.create(db, "org", "digits", private=False)
            numbers.append(repo.number)
            repos.delete(db, repo)
    assert len(set(numbers)) == 3
