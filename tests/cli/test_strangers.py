"""Files that are not packs, and folders that hold one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runs import Files, Run
from safetensors.torch import save_file

import lottapack
from lottapack.errors import ContainerError, InvalidReferenceError


def picture(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))


def checkpoint(path: Path) -> None:
    torch.save({"weight": torch.zeros(300, 2)}, path)


def old_checkpoint(path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)


def of_transformers(path: Path) -> None:
    save_file({"b": torch.zeros(2), "a": torch.zeros(2, dtype=torch.float16)}, path, {"format": "pt"})


def plain(path: Path) -> None:
    save_file({"a": torch.zeros(2)}, path)


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def config(path: Path) -> None:
    path.write_text(json.dumps({"model_type": "llama"}, indent=2))


def page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE HTML><html><body>Not found</body></html>")


def pointer(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n")


STRANGERS = [
    (picture, "a PNG picture, not a pack", "Name a pack"),
    (checkpoint, "a checkpoint that torch.save wrote", "lottapack pack "),
    (old_checkpoint, "an old checkpoint of torch.save", "lottapack pack "),
    (of_transformers, "not contain a lottapack descriptor", "lottapack pack "),
    (plain, "not contain a lottapack descriptor", "lottapack pack "),
    (array, "a NumPy array", "Name a pack"),
    (config, "a JSON file", "Name a pack"),
    (page, "a web page", "Download the file itself"),
    (pointer, "a pointer of Git LFS", "git lfs pull"),
]


@pytest.mark.parametrize(("make", "kind", "step"), STRANGERS)
def test_a_stranger_is_called_by_its_name(make, kind, step, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "given.lotta.safetensors"
    make(path)
    for line in (["inspect", path], ["verify", path], ["run", path, "--tokens", "1"]):
        result = run(*line)
        assert (result.code, result.out) == (2, "")
        assert kind in result.err
        assert step in result.err
    with pytest.raises(ContainerError) as caught:
        lottapack.load(path)
    assert step in caught.value.hint


def test_a_damaged_pack_is_not_called_something_else(run: Run, files: Files, tmp_path: Path) -> None:
    content = files.pack.read_bytes()
    for count in (1, 100, len(content) - 1):
        (tmp_path / "p.lotta.safetensors").write_bytes(content[:count])
        assert "truncated" in run("inspect", tmp_path / "p.lotta.safetensors").err


@pytest.fixture
def folder(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a pack and its configuration in the working folder."""
    made = tmp_path / "made"
    made.mkdir()
    (made / "model.lotta.safetensors").write_bytes(files.pack.read_bytes())
    (made / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return made


def test_a_folder_with_a_pack_is_read(folder: Path, files: Files, run: Run) -> None:
    np.save("in.npy", np.ones((1, 16), np.float32))
    for name in ("made", "made/", "./made", str(folder)):
        for line in (["inspect"], ["verify"], ["report"], ["run", "--input", "in.npy"]):
            assert run(line[0], name, *line[1:]).code == 0
        assert lottapack.inspect(name).path.name == "model.lotta.safetensors"
    expected = lottapack.load(files.pack).state_dict()
    for name in ("made", folder):
        found = lottapack.load(name).state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_a_folder_of_several_packs_wants_a_choice(folder: Path, files: Files, run: Run) -> None:
    (folder / "other.lotta.safetensors").write_bytes(files.pack.read_bytes())
    result = run("inspect", "made")
    assert (result.code, "model.lotta.safetensors, other.lotta.safetensors" in result.err) == (2, True)


def test_a_link_out_of_a_folder_is_refused(folder: Path, files: Files) -> None:
    (folder / "model.lotta.safetensors").unlink()
    (folder / "model.lotta.safetensors").symlink_to(files.pack)
    with pytest.raises(InvalidReferenceError, match="outside of its folder"):
        lottapack.load(folder)


def test_a_configuration_that_is_a_pipe_or_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink(missing_ok=True)
    os.mkfifo(folder / "config.json")
    with pytest.raises(InvalidReferenceError, match="not a regular file"):
        lottapack.load(folder)
    (folder / "config.json").unlink()
    (tmp_path / "elsewhere.json").write_text("{}")
    (folder / "config.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(InvalidReferenceError, match="outside of its folder"):
        lottapack.load(folder)


def test_a_path_with_a_nul_is_not_a_pack(folder: Path) -> None:
    for call in (lottapack.open_pack, lottapack.verify, lottapack.load, lottapack.inspect):
        with pytest.raises(lottapack.LottapackError):
            call(f"{folder}/a\0.lotta.safetensors")


@pytest.mark.parametrize(
    ("name", "words"),
    [("adapter_config.json", "a PEFT adapter"), ("model-00001-of-00002.safetensors", "a checkpoint"), ("x.txt", "")],
)
def test_a_folder_without_a_pack(name: str, words: str, folder: Path, run: Run) -> None:
    (folder / "model.lotta.safetensors").unlink()
    (folder / name).touch()
    result = run("inspect", folder)
    assert (result.code, "is a folder that does not contain a pack" in result.err) == (2, True)
    assert words in result.err
    assert ("lottapack pack " if words else "Name a pack") in result.err


def test_the_folder_of_a_registry_says_which_reference_to_name(tmp_path: Path, files: Files, run: Run) -> None:
    served, cached = tmp_path / "served", tmp_path / "models--my-org--digits"
    snapshot = cached / "snapshots" / "0123"
    for folder in (served, cached / "blobs", snapshot):
        folder.mkdir(parents=True)
    (served / "serve.lock").touch()
    (cached / "blobs" / "ab").write_bytes(files.pack.read_bytes())
    (snapshot / "model.lotta.safetensors").symlink_to("../../blobs/ab")
    for folder, words in ((served, "lottapack serve"), (cached, "my-org/digits")):
        result = run("inspect", folder)
        assert (result.code, words in result.err) == (2, True)
    assert run("inspect", snapshot).code == 0


@pytest.mark.parametrize(("name", "same"), [("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")])
def test_dtypes_have_two_names(name: str, same: str, files: Files, run: Run, tmp_path: Path) -> None:
    for number, dtype in enumerate((name, same)):
        assert run("export", files.pack, "-o", tmp_path / f"{number}.safetensors", "--dtype", dtype).code == 0
        lottapack.export(files.pack, tmp_path / f"{number}.python", dtype=dtype)
        assert getattr(torch, same) in {t.dtype for t in lottapack.load(files.pack, dtype=dtype).state_dict().values()}
        assert lottapack.draw("a", 3, seed=1, dtype=dtype).dtype == getattr(torch, same)
        if same != "float32":
            assert run("pack", files.checkpoint, "-o", tmp_path / f"{number}.pack", "--stored-dtype", dtype).code == 0
            assert lottapack.Compression(dtype=dtype).dtype_name == same
    for kind in ("safetensors", "python", "pack") if same != "float32" else ("safetensors", "python"):
        assert (tmp_path / f"0.{kind}").read_bytes() == (tmp_path / f"1.{kind}").read_bytes()
    assert "bfloat16" in run("export", files.pack, "-o", tmp_path / "x", "--dtype", "int8").err
    assert "the dtype of training" in run("pack", files.checkpoint, "--stored-dtype", "float32").err
