"""The ids are git's: compared with known ids, and with git if it is installed."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lottapack_serve.gitids import blob_id, commit_id, folder_ids

EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
FILES = {"a.txt": b"a", "a/x": b"x", "a0": b"", "a/b/c": b"\0" * 3_000_000, "ö/ü": b"u", "z": b"last"}


def blobs(files: dict[str, bytes]) -> dict[str, str]:
    return {path: blob_id(io.BytesIO(content), len(content)) for path, content in files.items()}


def test_the_ids_everyone_knows():
    assert blob_id(io.BytesIO(b""), 0) == EMPTY_BLOB
    assert folder_ids({}) == {"": EMPTY_TREE}


@pytest.mark.skipif(shutil.which("git") is None, reason="missing: git")
def test_git_gives_the_same_ids(tmp_path: Path):
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
           for key, value in (("NAME", "al"), ("EMAIL", "al@localhost"), ("DATE", "1700000000 +0000"))}  # fmt: skip
    environment = {
        **os.environ,
        **who,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": str(tmp_path),
    }

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("commit", "--quiet", "--allow-empty", "-m", "first")
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    git("add", "--all")
    git("commit", "--quiet", "-m", "second", "-m", "with ö")

    ids = folder_ids(blobs(FILES))
    assert ids[""] == git("rev-parse", "HEAD^{tree}")
    assert {path: git("rev-parse", f"HEAD:{path}") for path in ("a", "a/b", "ö")} == {
        key: ids[key] for key in ids if key
    }
    first = commit_id(EMPTY_TREE, None, "al", 1700000000, "first")
    assert first == git("rev-parse", "HEAD~")
    assert commit_id(ids[""], first, "al", 1700000000, "second\n\nwith ö") == git("rev-parse", "HEAD")
