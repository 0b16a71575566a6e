"""Tensors without elements come back like others."""

import pytest
import torch
from models import all_bits
from torch import nn

import lottapack


class Empty(nn.Module):
    """A parameter and a buffer without elements, before all others."""

    def __init__(self):
        super().__init__()
        self.none = nn.Parameter(torch.zeros(0, 8))
        self.register_buffer("nothing", torch.zeros(3, 0))
        self.body = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))

    def forward(self, x):
        return self.body(torch.cat([self.none, x]))


@pytest.mark.parametrize("merge", [False, True])
def test_tensors_without_elements_come_back(merge, tmp_path):
    model = lottapack.scaffold(lottapack.build("python", "test_empty_tensors:Empty"), seed=1, rank=2)
    lottapack.pack(model, tmp_path / "a", allow=["test_empty_tensors"])
    rebuilt = lottapack.load(tmp_path / "a", allow=["test_empty_tensors"], merge=merge)
    assert rebuilt.none.shape == (0, 8)
    assert rebuilt.nothing.shape == (3, 0)
    assert merge or all_bits(rebuilt) == all_bits(model)
