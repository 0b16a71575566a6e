"""``pack`` with codings, and ``report --table``, as people use them."""

import json
from pathlib import Path

import pytest
import torch
from cli_runs import Run, real
from torch import nn

import lottapack


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a model with embeddings worth coding."""
    path = tmp_path_factory.mktemp("coded") / "model.pt"
    torch.manual_seed(1)
    model = lottapack.scaffold(
        nn.Sequential(nn.Embedding(400, 32), nn.Linear(32, 32), nn.Linear(32, 9)), seed=4, rank=2
    )
    torch.save(model.state_dict(), path)
    return path


def test_codings_are_packed_measured_and_read(checkpoint: Path, tmp_path: Path) -> None:
    """Pack, report and load, each in its own process."""
    pack = tmp_path / "m.lotta.safetensors"
    forms = ["--stored-dtype", "fp16", "--coding", "int8-block64", "--max-error", "0.05"]
    result = real("pack", checkpoint, "-o", pack, *forms)
    assert result.code == 0, result.err
    assert "kept in another form" in result.out
    assert all(word in result.out for word in ("int8-block64", "51.2 kB", "13.2 kB"))
    assert real("verify", pack).code == 0
    assert "int8-block64" in real("inspect", pack).out
    full = tmp_path / "full.safetensors"
    assert real("export", pack, "-o", full).code == 0
    assert full.stat().st_size > 4 * 400 * 32


def test_json_has_the_errors(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    pack = tmp_path / "m.lotta.safetensors"
    found = json.loads(run("pack", checkpoint, "-o", pack, "--coding", "normal4-block64", "--json").out)
    (kept,) = found["kept"]
    state = torch.load(checkpoint, weights_only=True)
    before, after = state["0.weight"], lottapack.load(pack)[0].weight.detach()
    size = before.square().mean().sqrt()
    assert kept["name"] == "0.weight"
    assert kept["form"] == "normal4-block64"
    assert kept["worst"] == pytest.approx(float((after - before).abs().max() / size), rel=1e-5)
    assert kept["mean"] == pytest.approx(float((after - before).abs().mean() / size), rel=1e-5)
    assert kept["size"] == 400 * 32 // 2 + 2 * 400 * 32 // 64


def test_codings_by_group(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    pack = tmp_path / "m.lotta.safetensors"
    groups = ["--coding", "embeddings=normal4-block64", "--coding", "*=planes-zlib"]
    found = json.loads(run("pack", checkpoint, "-o", pack, *groups, "--json").out)
    assert {kept["group"]: kept["form"] for kept in found["kept"]}["embedding"] == "normal4-block64"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--coding", "int4"], ["unknown coding 'int4'", "int8-block64"]),
        (["--coding", "wings=int8-block64"], ["unknown group 'wings'", "embeddings"]),
        (["--coding", "int8-block64", "--coding", "planes-zlib"], ["name the group of each"]),
        (["--coding", "heads=planes-zlib", "--coding", "heads=int8-block64"], ["heads twice"]),
        (["--coding", "normal4-block64", "--max-error", "0.01"], ["0.weight as normal4-block64", "max_error is 0.01"]),
        (["--tolerance", "0.01"], ["--tolerance is only valid with"]),
        (["--stored-dtype", "fp8"], ["'fp8'", "fp16", "bf16"]),
    ],
)
def test_what_cannot_be_kept_so_is_refused(
    options: list[str], words: list[str], checkpoint: Path, tmp_path: Path, run: Run
) -> None:
    pack = tmp_path / "m.lotta.safetensors"
    result = run("pack", checkpoint, "-o", pack, *options)
    assert result.code == 2
    assert result.out == ""
    said = " ".join(result.err.replace("│", " ").split())
    assert all(word in said for word in words), result.err
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_fp16_are_refused(tmp_path: Path, run: Run) -> None:
    model = lottapack.scaffold(nn.Sequential(nn.Embedding(400, 32), nn.Linear(32, 9), nn.Linear(9, 9)), seed=4, rank=2)
    with torch.no_grad():
        model[0].weight[3] = 1e5
    torch.save(model.state_dict(), tmp_path / "m.pt")
    result = run("pack", tmp_path / "m.pt", "--stored-dtype", "fp16")
    assert result.code == 2
    assert "0.weight contains 100000, which is outside the range of float16" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_the_table_of_given_packs(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    packs = [tmp_path / "a.lotta.safetensors", tmp_path / "b.lotta.safetensors"]
    for pack, options in zip(packs, ([], ["--coding", "int8-block64"]), strict=True):
        assert run("pack", checkpoint, "-o", pack, *options).code == 0
    result = run("report", "--table", *packs)
    assert result.code == 0
    assert "b.lotta.safetensors: int8-block64 embeddings" in result.out
    rows = json.loads(run("report", "--table", *packs, "--json").out)["rows"]
    assert [row["size"] for row in rows] == [pack.stat().st_size for pack in packs]
    assert [row["scale"] for row in rows] == [None, None]
    assert run("report", "--table", *packs, "--markdown").out.splitlines()[0].startswith("| Llama | paper: fp16 |")


def test_the_table_measures_what_it_packs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = run("report", "--table", "--scale", "3M").out.splitlines()
    fp16, eight, four = (line.split() for line in lines[2:5])
    assert fp16[:4] == ["3M", "5", "1", "4"]
    assert fp16[-4] == f"{float(fp16[-4]):.2f}"
    assert float(fp16[-4]) <= 4
    assert float(eight[-2]) <= 0.55
    assert float(four[-2]) <= 0.32


@pytest.mark.parametrize(
    "arguments",
    [
        ["report"],
        ["report", "a", "b"],
        ["report", "a", "--scale", "3M"],
        ["report", "--table", "a", "--scale", "3M"],
        ["report", "--table", "--plot", "a.png"],
        ["report", "--table", "--scale", "7B"],
        ["report", "--table", "no.lotta.safetensors"],
    ],
)
def test_wrong_tables_are_refused(arguments: list[str], run: Run) -> None:
    assert run(*arguments).code == 2
