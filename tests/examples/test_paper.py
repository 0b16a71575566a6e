"""The paper's nine architectures: scaffolded, trained, packed, verified, rebuilt; counts as in the paper."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paper_run import counts, require_same, run
from table import CASES

import lottapack

PAPER = Path(__file__).parents[2] / "examples" / "paper"
BY_NAME = {case.name: case for case in CASES}
LARGE = [name for name, case in BY_NAME.items() if case.large]
AT_FULL_SIZE = [
    "MLP 512-256-128-64, rank 8",
    "CfC h=256, rank 1",
    "Plain-20 CNN, rank 16",
    "GIN 5x300, rank 16",
    "GCN 3x256, rank 32",
    "Decision Transformer 128d x 3, rank 32",
    "Text transformer 3x256, rank 8",
    "Llama 3M, rank 8",
]
TOTAL = {
    "Decision Transformer 128d x 3, rank 32": 737_688,
    "Decision Transformer 1024d x 12, rank 8": 152_297_496,
    "ViT-B/16, rank 1": 85_877_094,
    "Text transformer 3x256, rank 8": 10_380_802,
    "Llama 3M, rank 8": 2_368_320,
    "Llama 30M, rank 8": 29_990_784,
    "Llama 300M, rank 8": 315_405_312,
    "Llama 600M, rank 8": 693_370_944,
    "Llama 900M, rank 8": 1_212_039_296,
}
"""Where the paper rounds or says nothing."""

NOT_OURS = {
    "MLP 512-256-128-64, rank 8": 3.79,
    "Decision Transformer 128d x 3, rank 32": 44.9,
    "Decision Transformer 1024d x 12, rank 8": 1.76,
}
"""Shares that differ from the paper's; the example says why."""


def rows(path: Path) -> dict[str, list[str]]:
    """Return the lines of the table in README.md, by model."""
    lines = [line.strip("| ").split(" | ") for line in path.read_text("utf-8").splitlines() if line.startswith("| ")]
    return {cells[0]: cells for cells in lines if cells[0] in BY_NAME}


def due_total(name: str) -> int:
    said = BY_NAME[name].paper_total.replace(",", "")
    return int(said) if said.isdigit() else TOTAL[name]


@pytest.mark.parametrize("name", AT_FULL_SIZE)
def test_rebuilt_at_the_papers_size(name):
    case = BY_NAME[name]
    row = run(case, steps=2)
    assert row.total == due_total(name)
    assert same_rounded(row.percent, NOT_OURS.get(name, case.paper_percent))
    assert len(row.losses) == 2
    assert all(loss == loss for loss in row.losses)
    assert rows(PAPER / "README.md")[name][1:5:2] == [f"{row.total:,}", f"{row.trained:,}"]


def same_rounded(percent: float, said: float) -> bool:
    """Compare a share with the stated one, rounded to its digits."""
    digits = len(f"{said:g}".partition(".")[2])
    return f"{percent:.{digits}f}" == f"{said:.{digits}f}"


@pytest.mark.parametrize("name", ["Llama 30M, rank 8", *LARGE])
def test_rebuilt_with_one_layer(name):
    """Count the whole shape on meta, and build one layer of it."""
    case = BY_NAME[name]
    with torch.device("meta"):
        assert counts(case.build(None)) == due_total(name)
    if name in ("Llama 600M, rank 8", "Llama 900M, rank 8"):
        return  # one layer has 100 million parameters, and is of the same kind as the others
    row = run(case, layers=1, steps=1)
    assert row.pack_bytes > 0


@pytest.mark.parametrize("name", BY_NAME)
def test_the_table_has_every_model(name):
    cells = rows(PAPER / "README.md")[name]
    case = BY_NAME[name]
    total, trained = (int(cells[column].replace(",", "")) for column in (1, 3))
    assert total == due_total(name)
    assert cells[2] == case.paper_total
    assert 0 < trained < total
    assert same_rounded(float(cells[4]), NOT_OURS.get(name, case.paper_percent))


def test_the_trained_shares_of_the_llamas_follow_from_their_shapes():
    import llama

    for name, (layers, width, _, inner, percent) in llama.SHAPES.items():
        adapters = layers * 4 * (2 * width * 8 + 1)
        inside = layers * (4 * width**2 + 3 * width * inner + 2 * width) + width
        assert f"{100 * adapters / inside:.2f}" == f"{percent:.2f}", name


def test_a_difference_would_be_seen():
    case = BY_NAME["MLP 512-256-128-64, rank 8"]
    model = lottapack.scaffold(case.build(1), seed=1, rank=1, train="head")
    other = lottapack.scaffold(case.build(1), seed=1, rank=1, train="head")
    require_same(model, other, case)
    other.hidden1.backbone[0, 0] = torch.nextafter(other.hidden1.backbone[0, 0], torch.tensor(9.0))
    with pytest.raises(AssertionError, match=r"hidden1\.backbone"):
        require_same(model, other, case)


def test_an_example_is_a_program():
    command = [sys.executable, PAPER / "mlp.py", "rank 16", "--steps", "1", "--json"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=True)
    found = json.loads(done.stdout)
    assert (found["total"], found["trained"]) == (575_050, 42_894)


def test_the_package_of_an_example_must_be_allowed(tmp_path):
    gin = BY_NAME["GIN 5x300, rank 16"]
    model = lottapack.scaffold(gin.build(1), seed=1, **gin.scaffold)
    path = lottapack.pack(model, tmp_path / "gin.lotta.safetensors").path
    assert lottapack.inspect(path).allow == ("paper_models",)
    for allow in ((), "torch_geometric", ["ncps", "paper"]):
        with pytest.raises(lottapack.errors.NotAllowedError, match="needs to import paper_models"):
            lottapack.load(path, allow=allow)
