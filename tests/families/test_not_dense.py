"""Tensors that are not dense, in models of one's own: they are compared, or refused by name."""

import sys
import types
import warnings

import pytest
import torch
from torch import nn

import lottapack
from lottapack.arch.as_built import as_built
from lottapack.errors import ArchitectureError, CheckpointError

HOME = "layouts_of_a_test"
pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # torch says what it checks, and what is a prototype


def quantized(t):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will remove them
        return torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)


def nested(t, layout=torch.strided):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype
        return torch.nested.nested_tensor([t[0], t[1, :4]], layout=layout)


LAYOUTS = {
    "sparse_coo": torch.Tensor.to_sparse, "sparse_csr": torch.Tensor.to_sparse_csr,
    "sparse_csc": torch.Tensor.to_sparse_csc, "sparse_bsr": lambda t: t.to_sparse_bsr((2, 2)),
    "sparse_bsc": lambda t: t.to_sparse_bsc((2, 2)), "mkldnn": torch.Tensor.to_mkldnn, "quantized": quantized,
    "nested": nested, "jagged": lambda t: nested(t, torch.jagged),
}  # fmt: skip


class Record:
    pass


class Net(nn.Module):
    """Multiplies its output by a matrix that no checkpoint holds."""

    def __init__(self, layout="", holds="buffer"):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        matrix = torch.eye(8).roll(1, 0)
        if layout:
            matrix = LAYOUTS[layout](matrix)
        self.record = Record()
        if holds == "record":
            self.record.matrix = matrix
        elif holds == "attribute":
            self.matrix = matrix
        else:
            self.register_buffer("matrix", matrix, persistent=holds == "state")

    def forward(self, x):
        return (self.record if hasattr(self.record, "matrix") else self).matrix @ self.layers(x)


class Passing(nn.Module):
    """Makes a sparse matrix on its way to a dense one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        places = torch.tensor([[0, 1, 1], [2, 0, 3]])
        matrix = torch.sparse_coo_tensor(places, torch.tensor([3.0, 4.0, 5.0]), (8, 8)).coalesce()
        self.register_buffer("matrix", matrix.to_sparse_csr().to_dense(), persistent=False)

    def forward(self, x):
        return self.matrix @ self.layers(x)


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """A module from which the classes can be imported by name."""
    module = types.ModuleType(HOME)
    for kind in (Net, Passing):
        monkeypatch.setattr(kind, "__module__", HOME)
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, HOME, module)


def built(name="Net", **arguments):
    return lottapack.build("python", f"{HOME}:{name}", **arguments)


@pytest.mark.parametrize("holds", ["buffer", "attribute", "state"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_pack_cannot_hold_or_compare_is_refused_by_name(layout, holds):
    kind = "nested" if layout == "jagged" else layout
    for call in (lambda m: lottapack.scaffold(m, seed=1, rank=2), lambda m: lottapack.init_backbone_(m, seed=1)):
        with pytest.raises(ArchitectureError, match=f"^matrix is a {kind} tensor, which the format does not support"):
            call(built(layout=layout, holds=holds))


@pytest.mark.parametrize("holds", ["buffer", "record"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tensor_that_is_no_longer_dense_has_changed(layout, holds, tmp_path):
    model = lottapack.scaffold(built(holds=holds), seed=1, rank=2)
    owner = model.record if holds == "record" else model
    owner.matrix = LAYOUTS[layout](owner.matrix)
    with pytest.raises(CheckpointError, match="matrix, which no checkpoint holds, has other values"):
        lottapack.pack(model, tmp_path / "a")


def test_a_constructor_may_use_sparse_tensors(tmp_path):
    model = lottapack.scaffold(built("Passing"), seed=1, rank=2)
    lottapack.pack(model, tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a", allow=[HOME])
    assert torch.equal(loaded.matrix.view(torch.int32), model.matrix.view(torch.int32))
    x = torch.ones(8, 8)
    assert torch.equal(loaded(x).view(torch.int32), model.eval()(x).view(torch.int32))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_a_change_from_another_build_too(layout):
    """A model of another configuration, as after an edit of it, is compared by what its constructor computes."""
    model = lottapack.scaffold(built(), seed=1, rank=2)
    before, other = as_built(model), as_built(built())
    model.matrix = LAYOUTS[layout](model.matrix)
    assert list(before.seen_from(other, before.differences(model))) == ["matrix"]
