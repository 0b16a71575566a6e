"""The table of a sweep over model libraries, and its cases."""

import sweep
import torch
from sweep_libraries import Case
from torch import nn

import lottapack


def test_the_table_counts_by_library_and_cause():
    done = [
        ["timm", "a", {"stage": "done", "adapters": 1, "unused": 0, "dead": []}],
        ["timm", "b", {"stage": "done", "adapters": 1, "unused": 0, "dead": ["x"]}],
        ["timm", "c", {"stage": "build", "why": "ValueError: a | b\n"}],
        ["timm", "d", {"stage": "done", "adapters": 1, "unused": 0, "dead": []}],
    ]
    assert sweep.table(done).splitlines()[2:] == [
        "| timm | done |  | 2 |",
        "| timm | build | ValueError: a / b  | 1 |",
        "| timm | dead adapters |  | 1 |",
    ]


def layer():
    sizes = {"d_model": 8, "nhead": 2, "dim_feedforward": 12, "dropout": 0.0, "batch_first": True}
    kind = nn.TransformerEncoderLayer
    return lambda packs: (
        lottapack.build("python", "torch.nn:TransformerEncoderLayer", **sizes) if packs else kind(**sizes)
    )


def test_a_model_is_examined_to_the_end():
    case = Case("torch", "layer", [lambda: 1 / 0, layer], lambda _: iter([{"y": 1}, {"x": torch.randn(2, 3, 8)}]))
    found = sweep.examine(case, allow=["torch"])
    assert found["stage"] == "done", found
    assert (found["adapters"], found["dead"], found["unused"], found["in full"]) == (3, [], 0, {})


def test_a_model_without_inputs_is_packed_and_loaded():
    case = Case("torch", "layer", [layer], lambda _: iter([{"y": 1}]))
    found = sweep.examine(case, allow=["torch"])
    assert found["stage"] == "done", found
    assert "no inputs" in found
    assert "dead" not in found


def test_a_fault_is_told_with_its_stage():
    case = Case("torch", "none", [lambda: 1 / 0], lambda _: iter(()))
    assert sweep.examine(case) == {"stage": "config", "why": "ZeroDivisionError: division by zero"}
