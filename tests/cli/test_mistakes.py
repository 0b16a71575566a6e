"""Mistyped commands: no file is lost, and the message names the next step."""

import os
import shlex
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runs import Files, Result, Run
from torch import nn

import lottapack
from lottapack.errors import OutputError


def refused(result: Result, code: int, *words: str) -> None:
    assert (result.code, result.out) == (code, "")
    assert [word for word in words if word not in result.err] == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def here(files: Files, tmp_path: Path) -> Path:
    """Make a folder with a checkpoint, a pack, a link to it and an input."""
    shutil.copy(files.checkpoint, tmp_path / "model.pt")
    shutil.copy(files.pack, tmp_path / "model.lotta.safetensors")
    shutil.copy(files.pack, tmp_path / "model.safetensors")  # a pack under another name
    (tmp_path / "link.lotta.safetensors").symlink_to("model.lotta.safetensors")
    np.save(tmp_path / "in.npy", np.ones((1, 16), np.float32))
    (tmp_path / "picture.png").hardlink_to(tmp_path / "model.lotta.safetensors")
    shutil.copy(files.checkpoint, tmp_path / "model.png")
    (tmp_path / "run").mkdir()
    shutil.copy(files.checkpoint, tmp_path / "run" / "pytorch_model.bin")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "pack model.pt -o model.pt",
        "pack run -o run/pytorch_model.bin",
        "pack model.pt --rng torch-cpu --seed 1 -o model.pt",
        "pack model.pt --from-merged --seed 1 --max-rank 1 -o model.pt",
        "export model.lotta.safetensors -o model.lotta.safetensors",
        "export link.lotta.safetensors -o model.lotta.safetensors",
        "export model.safetensors -o .",
        "export model.safetensors -o ./ --max-shard-size 1kB",
        "run model.lotta.safetensors --input in.npy -o in.npy",
        "run model.safetensors --input in.npy -o model.safetensors",
        "report picture.png --plot picture.png",
        "report model.lotta.safetensors --plot picture.png",
        "report picture.png --against model.png --plot model.png",
        "inspect picture.png --plot picture.png",
    ],
)
def test_what_is_read_is_not_written_over(line: str, run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    before = contents(here)
    refused(run(*line.split()), 2, "is the input file; refusing to overwrite it", "Name another file")
    assert contents(here) == before


def test_a_pack_beside_or_within_its_checkpoint_is_replaced(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    for output in ("model.lotta.safetensors", "run/a.lotta.safetensors", "run/a.lotta.safetensors"):
        assert run("pack", "run", "-o", output).code == 0


def test_the_library_keeps_what_it_reads_too(files: Files, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pt"
    shutil.copy(files.checkpoint, checkpoint)
    with pytest.raises(OutputError, match="is the input file"):
        lottapack.pack(checkpoint, checkpoint)


def resized(model: nn.Sequential) -> None:
    model[0].bias = nn.Parameter(torch.zeros(33))


def test_a_layer_that_was_resized_after_scaffold(run: Run, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    model = lottapack.scaffold(model, seed=1, rank=2)
    resized(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    refused(run("pack", tmp_path / "model.pt"), 2, "0.bias", "in the model that was scaffolded", "after scaffold()")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pack model.pt --base model.lotta.safetensors", ["is only valid for PEFT adapters", "--base"]),
        ("pack model.lotta.safetensors", ["is already a pack", "lottapack inspect"]),
        ("pack none.pt", ["none.pt: no such file", "Pass the path of a checkpoint"]),
        ("pack empty.pt", ["cannot read empty.pt as tensors: it is empty"]),
        ("pack text.pt", ["torch.save did not write it"]),
        ("pack list.pt", ["contains a list", "model.state_dict()"]),
        (
            "pack model.pt --rng torch-cpu --seed 1 --arch none",
            ["cannot read none as an architecture: No such file"],
        ),
        ("inspect ./my-org/digits", ["No such file", "lottapack pull"]),
        ("verify model.lotta.safetensors --device mps", ["cannot use the device 'mps'"]),
        ("run model.lotta.safetensors --input none.npy", ["none.npy: No such file", "numpy.save"]),
        ("run nothing --input in.npy", ["'nothing' is not owner/name, and a file of that name does not exist"]),
        ("push none.txt my-org/digits", ["none.txt", "No such file"]),
        ("push model.lotta.safetensors my-org/digits --tag 'a b'", ["--tag 'a b' cannot be the name of a tag"]),
        ("pack plain.pt", ["--rng torch-cpu with --seed", "--from-merged with --seed and --max-rank"]),
        ("pack model.pt --max-size lots", ["--max-size lots is not a size", "15MiB"]),
        ("run model.lotta.safetensors --input in.npy --backbone fast", ["unknown --backbone fast"]),
        ("run model.lotta.safetensors --input in.npy --backbone virtual", ["Use --backbone blocks"]),
        ("run model.lotta.safetensors --input in.npy --seed 1", ["--temperature, --top-p, --seed and --tokenizer"]),
        ("run model.lotta.safetensors --input in.npy -o out.png", ["must end in .safetensors or .npy", "--output"]),
        ("report", ["error: name one pack"]),
    ],
)
def test_the_message_names_the_place_once_and_the_next_step(
    line: str, words: list[str], run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "empty.pt").touch()
    (here / "text.pt").write_text("hello")
    torch.save([torch.zeros(1)], here / "list.pt")
    torch.save({"weight": torch.zeros(2, 2)}, here / "plain.pt")
    monkeypatch.chdir(here)
    result = run(*shlex.split(line))
    refused(result, 2, *words)
    assert "Errno" not in result.err
    assert "weights_only" not in result.err
    assert max(map(len, result.err.splitlines())) < 250


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_is_refused_at_once(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done: list[Result] = []
    thread = threading.Thread(target=lambda: done.append(run("inspect", tmp_path / "pipe")), daemon=True)
    thread.start()
    thread.join(timeout=30)
    refused(done[0], 2, "Not a regular file", "Save the contents of a pipe")


def test_a_name_that_no_file_system_takes_is_named(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    for line in ("pack model.pt", "export model.lotta.safetensors", "run model.lotta.safetensors --input in.npy"):
        refused(run(*line.split(), "-o", "n" * 300), 2, "nnn", "too long")
