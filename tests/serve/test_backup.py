"""Backups of a busy registry: each is one consistent state and can be restored."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from extent import extent
from serve_runs import add, ask, command, commit_body, files_in

from lottapack.errors import IntegrityError, OutputError
from lottapack_cli.app import main
from lottapack_serve import background, backup, check, restore
from lottapack_serve.database import FILE

REPO = "/api/models/org/digits"


def content(name: str) -> bytes:
    return f"{name} ".encode() * 500


def push(url: str, repo: str, *names: str) -> str:
    body = commit_body(*[add(name, content(name)) for name in names])
    answer = ask(url, "POST", f"/api/models/{repo}/commit/main", body)
    assert answer.status == 200, answer.body
    return answer.json["commitOid"]


def state(url: str) -> dict[str, object]:
    """Return everything in a registry; check each content's hash."""
    found: dict[str, object] = {}
    for one in ask(url, "GET", "/api/models?full=true").json:
        commits = [commit["id"] for commit in ask(url, "GET", f"/api/models/{one['id']}/commits/main").json]
        names = [sibling["rfilename"] for sibling in one["siblings"]]
        for name in names:
            assert ask(url, "GET", f"/{one['id']}/resolve/main/{name}").body == content(name)
        found[one["id"]] = (commits, names)
    return found


def test_what_is_restored_is_what_there_was(registry, tmp_path):
    first = push(registry.url, "org/digits", "a", "b/c")
    token = tmp_path / "copy"
    done = backup(registry.root, token)
    assert (done.repositories, done.blobs, done.new) == (1, 2, 2)
    assert done.size == len(content("a")) + len(content("b/c"))
    before = state(registry.url)
    push(registry.url, "org/digits", "d")
    again = backup(registry.root, token)
    assert (again.blobs, again.new) == (3, 1)
    restore(token, tmp_path / "new")
    with background(tmp_path / "new") as running:
        assert state(running.url) == state(registry.url) != before
        assert ask(running.url, "GET", f"{REPO}/revision/{first}").status == 200
        push(running.url, "org/digits", "e")
    assert check(tmp_path / "new").damaged == ()


def test_what_is_gone_from_the_registry_goes_from_the_backup(registry, tmp_path):
    push(registry.url, "org/digits", "a")
    ask(registry.url, "POST", "/api/repos/create", {"name": "other", "organization": "org"})
    push(registry.url, "org/other", "b", "c")
    backup(registry.root, tmp_path / "copy")
    ask(registry.url, "DELETE", "/api/repos/delete", {"name": "other", "organization": "org"})
    assert backup(registry.root, tmp_path / "copy").blobs == 1
    assert files_in(tmp_path / "copy") == files_in(registry.root)


@pytest.mark.slow
def test_backups_while_others_write_and_delete(tmp_path):
    """Each backup is one state: it holds every commit confirmed before it began, complete and unchanged."""
    root = tmp_path / "registry"
    with command(root) as server, contextlib.ExitStack() as stack:
        confirmed: list[tuple[str, str]] = []
        ending = threading.Event()

        def write(writer: int) -> None:
            number = 0
            while not ending.is_set():
                repo = f"w{writer}/r{number // 3}"
                owner, name = repo.split("/")
                made = ask(server.url, "POST", "/api/repos/create", {"name": name, "organization": owner})
                assert made.status in (200, 409)
                commit = push(server.url, repo, *[f"{writer}-{number}-{file}" for file in range(4)], "same")
                confirmed.append((repo, commit))
                if number % 3 == 2 and writer % 2:
                    gone = ask(server.url, "DELETE", "/api/repos/delete", {"name": name, "organization": owner})
                    assert gone.status == 200
                number += 1

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        stack.callback(lambda: [ending.set(), *(thread.join() for thread in threads)])
        for number in range(extent(2, 4)):
            known: list[tuple[str, str]] = []
            while len(known) < 8 * (number + 1) and all(thread.is_alive() for thread in threads):
                time.sleep(0.02)
                known = [one for one in confirmed if int(one[0][1]) % 2 == 0]
            backup(root, tmp_path / "copy")
            restore(tmp_path / "copy", tmp_path / f"restored{number}")
            assert check(tmp_path / f"restored{number}").damaged == ()
            with background(tmp_path / f"restored{number}") as running:
                held = state(running.url)
            assert known
            assert all(commit in held[repo][0] for repo, commit in known)  # type: ignore[index]


SLOW = """
import sys, time
from pathlib import Path
from lottapack_serve import backup, blobs
real = blobs.Incoming.write
def write(self, piece):
    real(self, piece)
    print("copied", flush=True)
    time.sleep(0.05)
blobs.Incoming.write = write
backup(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_backup_leaves_the_one_before_and_goes_on(registry, tmp_path):
    push(registry.url, "org/digits", "a")
    copy = tmp_path / "copy"
    backup(registry.root, copy)
    before = (copy / FILE).read_bytes()
    push(registry.url, "org/digits", *[str(number) for number in range(20)])
    with subprocess.Popen([sys.executable, "-c", SLOW, registry.root, copy], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        for _ in range(5):
            assert run.stdout.readline() == "copied\n"
        with pytest.raises(OutputError, match="another process uses"):
            backup(registry.root, copy)
        run.kill()
    assert (copy / FILE).read_bytes() == before
    restore(copy, tmp_path / "restored")
    assert check(tmp_path / "restored").blobs == 1
    done = backup(registry.root, copy)
    assert (done.blobs, done.new <= 16) == (21, True)
    assert files_in(copy) == files_in(registry.root)


def damage(root: Path) -> Path:
    path = root / files_in(root)[-1]
    path.write_bytes(b"x" * path.stat().st_size)
    return path


def test_a_lost_content_is_said_and_the_older_backup_stays(registry, tmp_path):
    push(registry.url, "org/digits", "a")
    copy = tmp_path / "copy"
    backup(registry.root, copy)
    before = (copy / FILE).read_bytes()
    push(registry.url, "org/digits", "b")
    [new] = set(files_in(registry.root)) - set(files_in(copy))
    (registry.root / new).unlink()
    for fault in ("missing", "changed"):
        with pytest.raises(IntegrityError, match=f"{Path(new).name}: is {fault}"):
            backup(registry.root, copy)
        assert (copy / FILE).read_bytes() == before
        (registry.root / new).write_bytes(b"other")


def test_what_decayed_in_a_backup_is_copied_again_and_never_restored(registry, tmp_path):
    push(registry.url, "org/digits", "a", "b")
    copy = tmp_path / "copy"
    backup(registry.root, copy)
    damage(copy)
    with pytest.raises(IntegrityError, match="is changed"):
        restore(copy, tmp_path / "restored")
    assert backup(registry.root, copy).new == 1
    # An interrupted restore resumes too.
    assert restore(copy, tmp_path / "restored").new == 1
    with background(tmp_path / "restored") as running:
        assert state(running.url) == state(registry.url)


def test_nothing_else_is_overwritten(registry, tmp_path):
    push(registry.url, "org/digits", "a")
    backup(registry.root, tmp_path / "copy")
    other = tmp_path / "other"
    with background(other):
        pass
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine").write_text("mine")
    for target in (registry.root, other, tmp_path / "files"):
        with pytest.raises(OutputError, match="contains other files"):
            backup(registry.root, target)
        with pytest.raises(OutputError, match="is not empty"):
            restore(tmp_path / "copy", target)
    with pytest.raises(OutputError, match="is not empty"):
        restore(tmp_path / "copy", tmp_path / "copy")
    with pytest.raises(OutputError, match="does not contain a registry"):
        backup(tmp_path / "none", tmp_path / "new")
    with (
        pytest.raises(OutputError, match="is a backup, not a registry\nRestore it first"),
        background(tmp_path / "copy"),
    ):
        pass
    (tmp_path / "copy" / FILE).write_bytes(b"no index" * 1000)
    with pytest.raises(OutputError, match="cannot copy"):
        restore(tmp_path / "copy", tmp_path / "new")


def test_commands(registry, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    push(registry.url, "org/digits", "a")
    copy, new = str(tmp_path / "copy"), str(tmp_path / "new")
    assert main(["serve", "backup", copy, "--root", str(registry.root)]) == 0
    assert capsys.readouterr().out == f"{copy}: 1 repository, 1 blob, 1 kB, each hashed; 1 of them new\n"
    assert main(["serve", "restore", copy, "--root", new, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blobs"] == 1
    damage(registry.root)
    os.unlink(tmp_path / "copy" / files_in(tmp_path / "copy")[0])  # noqa: PTH108
    assert main(["serve", "backup", copy, "--root", str(registry.root)]) == 1
    assert "lottapack serve check" in capsys.readouterr().err
