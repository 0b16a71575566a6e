"""A path holds the old file or the complete new one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from models import trained

import lottapack
from lottapack.errors import OutputError
from lottapack.files import output
from lottapack.files.output import atomic_file


def only(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_new_files_appear_at_the_end(tmp_path):
    path = tmp_path / "a"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert only(tmp_path) == {"a": b"new"}


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_interruptions_leave_the_old_file_and_nothing_else(interruption, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(interruption), atomic_file(path) as file:
        file.write(b"half of the n")
        raise interruption
    assert only(tmp_path) == {"a": b"old"}


def test_a_full_disk_is_an_output_error(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="No space left"), atomic_file(path) as file:
        file.write(b"half of the n")
        raise OSError(28, "No space left on device")
    assert only(tmp_path) == {"a": b"old"}


def test_an_interrupted_pack_and_export_leave_what_was_there(tmp_path, monkeypatch):
    model, path = trained("mlp"), tmp_path / "a"
    lottapack.pack(model, path)
    before = only(tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lottapack.pack(model, path, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        lottapack.export(path, tmp_path / "b", progress=interrupt)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lottapack.pack(model, path)
    assert only(tmp_path) == before


def test_a_pack_is_read_back_before_it_takes_its_name(tmp_path, monkeypatch):
    from lottapack.packing import packer

    monkeypatch.setattr(packer, "tensor_bytes", lambda tensor: bytes(tensor.nbytes))
    (tmp_path / "a").write_bytes(b"old")
    model = trained("mlp")
    keep = packer.Packer._keep

    def honest(self, name, tensor):
        with monkeypatch.context() as patch:
            patch.setattr(packer, "tensor_bytes", lambda t: t.reshape(-1).numpy().tobytes())
            return keep(self, name, tensor)

    monkeypatch.setattr(packer.Packer, "_keep", honest)
    with pytest.raises(lottapack.errors.IntegrityError, match="has the SHA-256"):
        lottapack.pack(model, tmp_path / "a")
    assert only(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        with atomic_file(tmp_path / "a") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_paths_that_cannot_be_written_say_so(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    cases = {
        tmp_path / "none" / "a": "cannot write .*No such file",
        tmp_path / "file" / "a": "cannot write .*Not a directory",
        tmp_path: "is a folder",
        tmp_path / ("x" * 300): "cannot write .*too long",
    }
    for path, message in cases.items():
        with pytest.raises(OutputError, match=message), atomic_file(path) as file:
            file.write(b"new")
    assert only(tmp_path) == {"file": b"old"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folders_say_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"), atomic_file(tmp_path / "a"):
        pass


def test_devices_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OutputError, match="is not a regular file"), atomic_file(path):
            pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_long_names_of_many_bytes_are_fine(tmp_path):
    path = tmp_path / ("\N{GRINNING FACE}" * 63)
    with atomic_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_links_are_replaced_and_their_targets_kept(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    with atomic_file(tmp_path / "link") as file:
        file.write(b"new")
    assert only(tmp_path) == {"target": b"old", "link": b"new"}


KILLED = """
import os, sys
from pathlib import Path
from lottapack.files.output import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half of the n")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "a"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", KILLED, path], timeout=300, check=False).returncode == -9
        assert [left.read_bytes() for left in tmp_path.iterdir()] == [b"half of the n"]
    with atomic_file(path) as file:
        file.write(b"new")
    assert only(tmp_path) == {"a": b"new"}


def test_what_a_living_writer_has_written_stays(tmp_path):
    path = tmp_path / "a"
    (tmp_path / ".a.notes.tmp").write_bytes(b"someone else's")
    with atomic_file(path) as one:
        one.write(b"one")
        with atomic_file(path) as two:
            two.write(b"two")
        assert path.read_bytes() == b"two"
    assert only(tmp_path) == {"a": b"one", ".a.notes.tmp": b"someone else's"}


def test_a_new_file_that_was_taken_for_a_dead_writers_is_made_again(tmp_path, monkeypatch):
    """Another process removed it between creation and locking."""
    real, removed = output.lock, []

    def swept(descriptor):
        if not removed:
            removed.append(next(tmp_path.iterdir()))
            removed[0].unlink()
        return real(descriptor)

    monkeypatch.setattr(output, "lock", swept)
    with atomic_file(tmp_path / "a") as file:
        file.write(b"new")
    assert removed
    assert only(tmp_path) == {"a": b"new"}


def test_an_interruption_right_after_the_hidden_file_was_made_leaves_nothing(tmp_path, monkeypatch):
    """A signal is handled between two steps of Python, and so before the caller knows the new file."""
    real = Path.open

    def opened(self, *arguments, **options):
        real(self, *arguments, **options).close()
        raise KeyboardInterrupt

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a") as file:
        file.write(b"new")
    monkeypatch.undo()
    assert only(tmp_path) == {"a": b"old"}


def test_folders_made_for_a_file_go_again_with_it(tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(ValueError), atomic_file(tmp_path / "kept" / "x" / "y" / "a", parents=True):
        raise ValueError
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]
    with atomic_file(tmp_path / "kept" / "x" / "y" / "a", parents=True) as file:
        file.write(b"new")
    assert (tmp_path / "kept" / "x" / "y" / "a").read_bytes() == b"new"
