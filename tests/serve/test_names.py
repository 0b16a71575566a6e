"""Names that a registry accepts, and names that it refuses with a reason."""

import unicodedata

import pytest

from lottapack_serve.names import check_path, check_ref, check_repo, is_commit
from lottapack_serve.refusals import RefusedError

PATHS = ["a", "model.lotta.safetensors", "a/b/c.txt", "häuser/日本.bin", "a b", "..a", "a..", "x" * 255, "con:aux"]
BAD_PATHS = {
    "": "bytes",
    "a" * 256: "255",
    "/".join(["a" * 200] * 6): "1024",
    "/etc/passwd": "plain path",
    "../x": "plain path",
    "a/../../x": "plain path",
    "a/./b": "plain path",
    "a//b": "plain path",
    "a/": "plain path",
    ".": "plain path",
    "a\\..\\b": "Windows",
    "C:/x": "Windows",
    "a\0b": "control",
    "a\nb": "control",
    "a\x7fb": "control",
    "\ud800": "Unicode",
    unicodedata.normalize("NFD", "ä"): "NFC",
    ".git/config": "are reserved for git",
    "a/.GIT/x": "are reserved for git",
    ".cache/x": "are reserved for git",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_of_files(path):
    assert check_path(path) == path


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
def test_paths_that_leave_the_repository_or_fit_no_disk_are_refused(path):
    with pytest.raises(RefusedError, match=BAD_PATHS[path]) as caught:
        check_path(path)
    assert caught.value.status == 400


@pytest.mark.parametrize("repo", ["a/b", "my-org/digits_v1.2", "_/_", f"{'o' * 96}/{'n' * 96}"])
def test_names_of_repositories(repo):
    assert check_repo(*repo.split("/")) == repo


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("", "a"), ("a", ""), ("a", ".."), ("a", "."), ("a", "x" * 97), ("-a", "b"), ("a-", "b"), ("a", "b--c"),
        ("a", "b..c"), ("a", "b.git"), ("a", "b c"), ("a", "ä"), ("a", "b/c"), ("a", "b\n"), ("api", "x"),
        ("Datasets", "x"), ("models", "x"),
    ],
)  # fmt: skip
def test_names_that_no_repository_can_have(owner, name):
    with pytest.raises(RefusedError) as caught:
        check_repo(owner, name)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["main", "v1", "v1.0", "feat/new-thing", "1.2.3+cpu", "x" * 199])
def test_names_of_branches_and_tags(name):
    assert check_ref(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "..", "a/../b", "a.lock", ".a", "a/.b", "a.", "a b", "refs/heads/a", "a" * 40, "x" * 200,
     "ä", "-a", "a\n"],
)  # fmt: skip
def test_names_that_no_branch_can_have(name):
    with pytest.raises(RefusedError) as caught:
        check_ref(name)
    assert caught.value.status == 400


def test_commits_are_told_from_names():
    assert is_commit("0123456789abcdef" * 2 + "01234567")
    assert not is_commit("0123456789ABCDEF" * 2 + "01234567")
    assert not is_commit("a" * 39)
    assert not is_commit("a" * 40 + "\n")
