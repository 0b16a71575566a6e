"""Folders given as text, and arguments of other types, of the server's own functions."""

import pytest
from serve_runs import ask

import lottapack_serve
from lottapack.errors import InvalidReferenceError, OutputError, UnsupportedError


def test_folders_may_be_text(tmp_path):
    root, copy, again = (str(tmp_path / name) for name in ("registry", "copy", "again"))
    with lottapack_serve.background(root) as running:
        assert ask(running.url, "GET", "/api/models").status == 200
        assert running.token("al", "write").startswith("lotta_")
    assert [token.name for token in lottapack_serve.tokens.listed(root)] == ["al"]
    assert lottapack_serve.check(root).damaged == ()
    assert lottapack_serve.backup(root, copy).repositories == 0
    assert lottapack_serve.restore(copy, again).repositories == 0
    lottapack_serve.tokens.remove(again, "al")


@pytest.mark.parametrize("value", [None, 5, b"registry", ["registry"], "a\0b"])
def test_what_is_no_folder(value, tmp_path):
    calls = (
        lambda: lottapack_serve.tokens.add(value, "al"),
        lambda: lottapack_serve.tokens.listed(value),
        lambda: lottapack_serve.tokens.remove(value, "al"),
        lambda: lottapack_serve.check(value),
        lambda: lottapack_serve.backup(value, tmp_path / "copy"),
        lambda: lottapack_serve.backup(tmp_path, value),
        lambda: lottapack_serve.restore(value, tmp_path / "again"),
        lambda: lottapack_serve.background(value).__enter__(),
        lambda: lottapack_serve.run(value),
    )
    for call in calls:
        with pytest.raises(InvalidReferenceError, match="is not a path"):
            call()


def test_rights_that_no_token_has(tmp_path):
    with pytest.raises(UnsupportedError, match="unknown rights 'admin'"):
        lottapack_serve.tokens.add(tmp_path / "registry", "al", "admin")
    assert not (tmp_path / "registry").exists()


@pytest.mark.parametrize("inside", ["incoming", "blobs/ab", "copy"])
def test_no_backup_goes_into_its_registry(inside, tmp_path):
    root = tmp_path / "registry"
    lottapack_serve.tokens.add(root, "al")
    with pytest.raises(OutputError, match="is inside of the registry"):
        lottapack_serve.backup(root, root / inside)
    assert [path.name for path in root.iterdir() if path.is_dir()] == []


def test_no_registry_goes_into_its_backup(tmp_path):
    root, copy = tmp_path / "registry", tmp_path / "copy"
    lottapack_serve.tokens.add(root, "al")
    lottapack_serve.backup(root, copy)
    before = sorted(path.name for path in copy.iterdir())
    with pytest.raises(OutputError, match="is inside of the backup"):
        lottapack_serve.restore(copy, copy / "again")
    assert sorted(path.name for path in copy.iterdir()) == before
