"""A full disk, a read-only folder, two writers, a wrong clock: the old file or the new one remains."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from crash_places import read_only, small_disk
from kills import in_child, waited
from torch import nn

import lottapack
from lottapack.errors import LimitError, OutputError

NAME = "model.lotta.safetensors"


def make(folder: Path, seed: int) -> Path:
    """Write a checkpoint, its pack of 140 kB, and full weights of 280 kB."""
    folder.mkdir()
    model = lottapack.scaffold(nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64)), seed=seed, rank=2)
    torch.save(model.state_dict(), folder / "model.pt")
    lottapack.pack(model, folder / NAME)
    lottapack.export(folder / NAME, folder / "full.safetensors")
    return folder


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("packs")
    return make(base / "old", 1), make(base / "new", 2)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key."""
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric import ec

    path = tmp_path_factory.mktemp("key") / "key"
    made = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(made.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pack_it(new: Path, folder: Path) -> None:
    lottapack.pack(new / "model.pt", folder / NAME)


def export_it(new: Path, folder: Path) -> None:
    lottapack.export(new / NAME, folder / "full.safetensors")


RUNS = {NAME: pack_it, "full.safetensors": export_it}


@pytest.mark.parametrize("made", RUNS)
def test_a_full_disk_keeps_the_old_file(made: str, packs: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = packs
    size = (old / made).stat().st_size // 1024 + 64
    with small_disk(tmp_path / "disk", size) as disk:
        shutil.copy(old / made, disk)
        before = content(disk)
        with pytest.raises((OutputError, LimitError), match=r"No space left|are free in"):
            RUNS[made](new, disk)
        assert content(disk) == before
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True, timeout=300)
        RUNS[made](new, disk)
        assert content(disk) == {made: (new / made).read_bytes()}


def test_a_disk_that_fills_up_while_the_check_of_its_space_said_it_would_do(
    packs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = packs[1]
    with small_disk(tmp_path / "disk", 64) as disk:
        (disk / "full.safetensors").write_bytes(b"old")
        monkeypatch.setattr("lottapack.exporting.export.check_disk", lambda *_: None)
        with pytest.raises(OutputError, match="No space left"):
            export_it(new, disk)
        assert content(disk) == {"full.safetensors": b"old"}


def test_no_room_for_a_signature(key: Path, packs: tuple[Path, Path], tmp_path: Path) -> None:
    size = (packs[0] / NAME).stat().st_size // 1024 + 8
    with small_disk(tmp_path / "disk", size) as disk:
        shutil.copy(packs[0] / NAME, disk)
        with contextlib.suppress(OSError), (disk / "filler").open("wb") as file:
            while True:
                file.write(bytes(512))
                file.flush()
        with pytest.raises(OutputError, match="No space left"):
            lottapack.sign(disk / NAME, key)
        assert content(disk).keys() - {"filler"} == {NAME}


@pytest.mark.parametrize("made", RUNS)
def test_a_read_only_folder_keeps_the_old_file(made: str, packs: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = packs
    (tmp_path / "folder").mkdir()
    shutil.copy(old / made, tmp_path / "folder")
    before = content(tmp_path / "folder")
    with read_only(tmp_path / "folder") as folder:
        with pytest.raises(OutputError, match="Read-only file system"):
            RUNS[made](new, folder)
        assert content(folder) == before
        if made == NAME:
            assert lottapack.load(folder / made)  # reading does not write
    RUNS[made](new, tmp_path / "folder")
    assert content(tmp_path / "folder") == {made: (new / made).read_bytes()}


def test_a_read_only_folder_takes_no_signature(key: Path, packs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    shutil.copy(packs[0] / NAME, tmp_path / "folder")
    with read_only(tmp_path / "folder") as folder:
        with pytest.raises(OutputError, match="Read-only file system"):
            lottapack.sign(folder / NAME, key)
        assert sorted(content(folder)) == [NAME]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A forked process has one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("made", RUNS)
def test_four_writers_of_one_file(made: str, packs: tuple[Path, Path], tmp_path: Path, one_thread: None) -> None:
    """A reader sees one of two whole files at any moment, and no other file remains."""
    due = {(folder / made).read_bytes() for folder in packs}
    folder = tmp_path / "out"
    folder.mkdir()
    shutil.copy(packs[0] / made, folder)

    def write(which: int) -> Callable[[], None]:
        def run() -> None:
            for number in range(6):
                RUNS[made](packs[(which + number) % 2], folder)

        return run

    children = [in_child(write(number)) for number in range(4)]
    codes: list[int] = []
    while children:
        assert (folder / made).read_bytes() in due
        code = waited(children[0], 0.002)
        if code is not None:
            codes.append(code)
            children.pop(0)
    assert codes == [0] * 4
    assert list(content(folder)) == [made]
    assert content(folder)[made] in due


@pytest.mark.parametrize("when", ["1980-01-01 00:00:01", "2037-12-31 23:59:58"])
def test_the_clock_changes_no_byte(when: str, packs: tuple[Path, Path], tmp_path: Path) -> None:
    """Pack and export with a clock that is decades off, over files from its past and future."""
    if shutil.which("faketime") is None:
        pytest.skip("missing: faketime")
    new = packs[1]
    for path, moment in ((tmp_path / NAME, 4_000_000_000), (tmp_path / "full.safetensors", 1)):
        path.write_bytes(b"old")
        os.utime(path, (moment, moment))
    code = (
        "import sys, time, lottapack\n"
        f"assert time.strftime('%Y') == {when[:4]!r}\n"
        "lottapack.pack(sys.argv[1], sys.argv[2]); lottapack.export(sys.argv[2], sys.argv[3])"
    )
    line = ["faketime", "-f", f"@{when}", sys.executable, "-c", code]
    line += [str(new / "model.pt"), str(tmp_path / NAME), str(tmp_path / "full.safetensors")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path) == {made: (new / made).read_bytes() for made in RUNS}
