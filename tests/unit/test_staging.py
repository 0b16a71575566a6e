"""Folders that appear in one step, or whose files are replaced without a readable mixture."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from lottapack.errors import OutputError
from lottapack.files import staging
from lottapack.files.staging import filled_folder, staged_folder

ENTRY = "index"


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def write(folder: Path, files: dict[str, str], **options) -> None:
    with staged_folder(folder, entries=(ENTRY,), **options) as opened:
        for name, text in files.items():
            with opened(name) as file:
                file.write(text.encode())


def is_hidden(path: Path) -> bool:
    return any(part.endswith(".tmp") for part in path.parts)


@pytest.fixture
def steps(monkeypatch):
    """Every rename and removal in a visible place, with what was visible after it."""
    seen = []

    def watch(name):
        real = getattr(Path, name)

        def call(self, *arguments, **options):
            result = real(self, *arguments, **options)
            place = arguments[0] if arguments else self
            if not is_hidden(place):
                seen.append((name, place.name))
            elif not is_hidden(self):
                seen.append(("aside", self.name))
            return result

        monkeypatch.setattr(Path, name, call)

    for name in ("replace", "rename", "unlink"):
        watch(name)
    return seen


NEW = {"a": "new a", "inside/b": "new b", ENTRY: "new"}


def test_a_new_folder_appears_in_one_step(tmp_path, steps):
    write(tmp_path / "out", NEW)
    assert steps == [("rename", "out")]
    assert content(tmp_path / "out") == NEW
    assert names(tmp_path) == ["out"]
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_entry_is_away_while_the_rest_is_replaced(tmp_path, steps):
    write(tmp_path / "out", {**NEW, "a": "old a", ENTRY: "old", "c": "old c"})
    (tmp_path / "out" / "notes").write_text("mine")
    steps.clear()
    write(tmp_path / "out", NEW, gone=["c", "d"])
    files = [("aside", "a"), ("replace", "a"), ("aside", "b"), ("replace", "b"), ("replace", ENTRY)]
    assert steps == [("aside", ENTRY), *files, ("aside", "c")]
    assert content(tmp_path / "out") == {**NEW, "notes": "mine"}


class Stop(BaseException):
    pass


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("step", range(7))
def test_stopped_after_any_step_nobody_reads_a_mixture(step, killed, tmp_path, monkeypatch):
    """Interrupted, it puts the old files back; killed, it does nothing more."""
    old = {**NEW, "a": "old a", ENTRY: "old", "c": "old c"}
    del old["inside/b"]
    write(tmp_path / "out", old)
    done = []
    for name in ("replace", "rename", "unlink"):
        real = getattr(Path, name)

        def call(self, *arguments, _real=real, **options):
            if killed and len(done) > step:
                raise Stop
            result = _real(self, *arguments, **options)
            done.append(self)
            if len(done) == step + 1:
                raise Stop
            return result

        monkeypatch.setattr(Path, name, call)
    if step < 6:
        with pytest.raises(Stop):
            write(tmp_path / "out", NEW, gone=["c"])
    else:
        write(tmp_path / "out", NEW, gone=["c"])
    monkeypatch.undo()
    found = content(tmp_path / "out")
    if killed and step < 6:
        assert ENTRY not in found or found.items() >= NEW.items()
        assert all(text in (old.get(name), NEW.get(name)) for name, text in found.items())
    else:
        assert found == (old if step < 6 else NEW)
    assert not [name for name in names(tmp_path / "out") if name.endswith(".tmp")]


def test_what_is_there_already_is_no_step(tmp_path, steps):
    """If one of two files is unchanged, the other is replaced in one step, and none is ever missing."""
    write(tmp_path / "out", {**NEW, "a": "old a"})
    steps.clear()
    write(tmp_path / "out", NEW)
    assert steps == [("replace", "a")]
    assert content(tmp_path / "out") == NEW
    steps.clear()
    write(tmp_path / "out", NEW)
    assert steps == []


def test_files_too_large_to_be_compared_are_replaced(tmp_path, steps, monkeypatch):
    write(tmp_path / "out", NEW)
    monkeypatch.setattr(staging, "_SMALL", 4)
    steps.clear()
    write(tmp_path / "out", NEW)
    assert [name for _, name in steps] == [ENTRY, "a", "a", "b", "b", ENTRY]


def test_a_folder_that_another_writer_made_meanwhile_is_replaced_file_by_file(tmp_path):
    with staged_folder(tmp_path / "out", entries=(ENTRY,)) as opened:
        for name in ("a", ENTRY):
            with opened(name) as file:
                file.write(b"one")
        write(tmp_path / "out", NEW)
    assert content(tmp_path / "out") == {**NEW, "a": "one", ENTRY: "one"}
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("there", [True, False])
def test_a_fault_leaves_nothing_and_changes_nothing(there, tmp_path):
    if there:
        write(tmp_path / "out", {"a": "old"})
    with pytest.raises(OutputError, match="No space left"), staged_folder(tmp_path / "out") as opened:
        with opened("a") as file:
            file.write(b"new")
        raise OSError(28, "No space left on device")
    assert content(tmp_path) == ({"out/a": "old"} if there else {})
    assert names(tmp_path) == (["out"] if there else [])


@pytest.mark.parametrize("there", [True, False])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_has_is_not(there, tmp_path):
    out = tmp_path / "out"
    if there:
        out.mkdir()
    stem = out / ".lottapack" if there else tmp_path / ".out"
    dead, living, other = (Path(f"{stem}.{end}") for end in ("0" * 16 + ".tmp", "1" * 16 + ".tmp", "notes.tmp"))
    for place in (dead, living, other):
        (place / "inside").mkdir(parents=True)
        (place / "inside" / "a").write_text("a")
    descriptor = os.open(living, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        write(out, NEW)
    finally:
        os.close(descriptor)
    assert (dead.exists(), living.exists(), other.exists()) == (False, True, True)
    assert content(out).items() >= NEW.items()


def test_a_new_hidden_folder_that_was_taken_for_a_dead_writers_is_made_again(tmp_path, monkeypatch):
    real, removed = staging.lock, []

    def swept(descriptor):
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].rmdir()
        return real(descriptor)

    monkeypatch.setattr(staging, "lock", swept)
    write(tmp_path / "out", NEW)
    assert removed
    assert content(tmp_path / "out") == NEW
    assert names(tmp_path) == ["out"]


def test_old_files_that_cannot_go_back_are_kept_and_named(tmp_path, monkeypatch):
    """A disk that refuses every change from the first new file on."""
    folder = tmp_path / "there"
    write(folder, {"a": "old", "b": "old", ENTRY: "old"})
    before, whole = content(folder), Path.replace

    def refuse(path, target):
        raise OSError(errno.EROFS, "Read-only file system")

    with (
        monkeypatch.context() as patched,
        pytest.raises(OutputError, match="could not be put back: they are in ") as caught,
    ):
        patched.setattr(Path, "replace", refuse)
        write(folder, {"a": "new", "b": "new", ENTRY: "new"})
    kept = Path(caught.value.message.partition("they are in ")[2])
    assert {
        **content(kept),
        **{name: text for name, text in content(folder).items() if not is_hidden(folder / name)},
    } == before
    for path in kept.iterdir():
        whole(path, folder / path.name)
    write(folder, {"a": "new", "b": "new", ENTRY: "new"})
    assert content(folder) == {"a": "new", "b": "new", ENTRY: "new"}


def test_places_that_are_none_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for place, said in (("file", "a file has that name"), ("link", "a file has that name"), ("x/y", "is not a folder")):
        with pytest.raises(OutputError, match=said):
            write(tmp_path / place, NEW)
    (tmp_path / "out" / "a").mkdir(parents=True)
    with pytest.raises(OutputError, match="a folder has that name"):
        write(tmp_path / "out", NEW)
    assert content(tmp_path) == {"file": "mine"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "named").symlink_to("mine")
    write(tmp_path / "named", NEW)
    assert content(tmp_path / "mine") == NEW


def test_an_interruption_while_the_hidden_folder_is_removed_leaves_nothing(tmp_path, monkeypatch):
    removed, interruptions = os.unlink, iter([True])

    def unlink(path, **options):
        removed(path, **options)
        if os.fspath(path) == "b.old" and next(interruptions, False):
            raise KeyboardInterrupt

    def write(text):
        with staged_folder(tmp_path / "out", entries=["a", "b.old"]) as opened:
            for name in ("a", "b.old"):
                with opened(name) as file:
                    file.write(text)

    write(b"old")
    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        write(b"new")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b.old"]
    assert (tmp_path / "out" / "a").read_bytes() == b"new"


@pytest.mark.parametrize("there", [True, False])
def test_an_interruption_right_after_the_hidden_folder_was_made_leaves_nothing(there, tmp_path, monkeypatch):
    if there:
        write(tmp_path / "out", {"a": "old"})
    before, real = content(tmp_path), Path.mkdir

    def made(self, *arguments, **options):
        real(self, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", made)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", NEW)
    monkeypatch.undo()
    assert content(tmp_path) == before
    assert names(tmp_path) == (["out"] if there else [])


@pytest.mark.parametrize("name", ["c", "second"])
def test_a_folder_in_the_place_of_a_file_to_remove_is_refused_before_anything_changes(name, tmp_path):
    """Found in the middle, it would leave the folder without its entry."""
    write(tmp_path / "out", {**NEW, "a": "old a", ENTRY: "old"})
    (tmp_path / "out" / name / "mine").mkdir(parents=True)
    before = content(tmp_path)
    with (
        pytest.raises(OutputError, match=f"cannot remove .*{name}: a folder has that name"),
        staged_folder(tmp_path / "out", entries=(ENTRY, "second"), gone=["c"]) as opened,
    ):
        for own, text in NEW.items():
            with opened(own) as file:
                file.write(text.encode())
    assert content(tmp_path) == before
    assert (tmp_path / "out" / name / "mine").is_dir()


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_a_library_fills_appears_with_its_entry_last(there, tmp_path, steps):
    out = tmp_path / "x" / "out"
    if there:
        out.mkdir(parents=True)
    with filled_folder(out, "a") as folder:
        (folder / "a").write_text("entry")
        (folder / "b").mkdir()
        (folder / "b" / "c").write_text("c")
        assert not (out / "a").exists()
    assert steps == ([("rename", "b"), ("rename", "a")] if there else [("rename", "out")])
    assert content(out) == {"a": "entry", "b/c": "c"}
    assert names(tmp_path / "x") == ["out"]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_fault_of_the_library_that_fills_a_folder_leaves_nothing(fault, there, tmp_path):
    if there:
        (tmp_path / "out").mkdir()
    expected = OutputError if isinstance(fault, OSError) else fault
    with pytest.raises(expected), filled_folder(tmp_path / "out", "a") as folder:
        (folder / "a").write_text("half")
        raise fault
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if there else [])
