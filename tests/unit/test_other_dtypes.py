"""Tensors of dtypes that the format does not have: refused before training, or computed when the model is built."""

import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import ScaffoldError

OTHERS = [
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e8m0fnu,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]
HELD = [torch.float64, torch.int64, torch.int16, torch.int8, torch.uint8, torch.bool]


class Net(nn.Module):
    """Two layers and a tensor of some dtype, as a buffer or as a frozen parameter."""

    def __init__(self, dtype: str, how: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 2)
        tensor = torch.arange(6).view(2, 3).to(getattr(torch, dtype))
        if how == "parameter":
            self.extra = nn.Parameter(tensor, requires_grad=False)
        else:
            self.register_buffer("extra", tensor, persistent=how == "buffer")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


def net(dtype, how):
    return lottapack.build("python", "test_other_dtypes:Net", dtype=str(dtype).removeprefix("torch."), how=how)


@pytest.mark.parametrize("how", ["buffer", "parameter"])
@pytest.mark.parametrize("dtype", OTHERS)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_scaffold_refuses_what_a_pack_cannot_store(dtype, how):
    with pytest.raises(ScaffoldError, match=f"^extra is {dtype}, which the format does not support"):
        lottapack.scaffold(net(dtype, how), seed=1, rank=2)


@pytest.mark.parametrize(("dtype", "how"), [(one, "buffer") for one in HELD] + [(one, "computed") for one in OTHERS])
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_all_others_come_back(dtype, how, tmp_path):
    model = lottapack.scaffold(net(dtype, how), seed=1, rank=2)
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(model, path)
    found = lottapack.load(path, allow=["test_other_dtypes"]).extra
    assert found.dtype == dtype
    assert torch.equal(found.view(torch.uint8), model.extra.view(torch.uint8))
