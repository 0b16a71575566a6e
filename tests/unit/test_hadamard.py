"""Signed Hadamard matrices: orthogonal rows or columns, fixed bits, refusals."""

from dataclasses import replace

import models
import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack import rng
from lottapack.errors import UnsupportedError
from lottapack.rng import backends, hadamard, reference
from lottapack.rng.arrays import fill_bits, fingerprint_of

SHAPES = [
    (8, 8),
    (4, 12),
    (12, 4),
    (6, 6),
    (5, 3),
    (3, 5),
    (7,),
    (),
    (1, 1),
    (0, 4),
    (0, 0),
    (24, 3, 3, 3),
    (4, 70_000),
]


def source(shape, dtype="float32", scale=0.5, seed=7):
    return rng.Source(seed, "0.weight", rng.builtin("hadamard"), scale, dtype, shape)


def bits_of(tensor):
    return tensor.view(-1).view(torch.int32 if tensor.element_size() == 4 else torch.int16).numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_arrays_and_tensors_are_as_the_reference(shape, dtype):
    one = source(shape, dtype)
    expected = reference.elements(one, 0, int(np.prod(shape)))
    out = np.empty(expected.size, expected.dtype)
    fill_bits(out, one)
    assert np.array_equal(out, expected)
    tensor = rng.fill_(torch.empty(shape, dtype=getattr(torch, dtype)), one)
    assert np.array_equal(bits_of(tensor).view(expected.dtype), expected)
    assert rng.fingerprint(tensor) == fingerprint_of(one, expected.size) == reference.fingerprint(expected)
    assert rng.fingerprints_on(torch.device("cpu"), [(one, expected.size)]) == [rng.fingerprint(tensor)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_devices_compute_the_same(shape, dtype):
    """The GPU's algorithm in plain torch operations on the CPU."""
    one, kind = source(shape, dtype), getattr(torch, dtype)
    expected = rng.fill_(torch.empty(shape, dtype=kind), one)
    found = torch.empty(shape, dtype=kind)
    hadamard.fill_by_torch(found, one, 0)
    assert torch.equal(found, expected)
    part = torch.empty(max(found.numel() - 5, 0), dtype=kind)
    hadamard.fill_by_torch(part, one, 3 if part.numel() else 0)
    assert torch.equal(part, expected.view(-1)[3 : part.numel() + 3])


def test_pieces_and_runs_are_those_of_the_whole():
    one = source((8, 70_000))
    whole = rng.fill_(torch.empty(8, 70_000), one).view(-1)
    for start, count in ((0, 1), (69_990, 20), (70_000 * 3 + 5, 3 * 70_000), (8 * 70_000 - 1, 1)):
        assert torch.equal(rng.fill_(torch.empty(count), one, start), whole[start : start + count])
    starts, lengths = np.arange(8) * 70_000 + 11, np.full(8, 13)
    runs = rng.fill_runs_(torch.empty(8 * 13), one, starts, lengths)
    assert torch.equal(runs, whole.view(8, -1)[:, 11:24].reshape(-1))
    both = [(torch.empty(8, 70_000), one), (torch.empty(9), rng.Source(1, "a", rng.builtin("sign1"), 1.0, "float32"))]
    prints = rng.fill_all_(both, fingerprints=True)
    assert torch.equal(both[0][0].view(-1), whole)
    assert prints == [rng.fingerprint(tensor) for tensor, _ in both]
    with pytest.raises(UnsupportedError, match="exceed a matrix"):
        rng.fill_(torch.empty(2), one, 8 * 70_000 - 1)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 48), (48, 16), (10, 32)])
def test_rows_or_columns_are_orthonormal(rows, columns):
    weight = lottapack.draw("w", (rows, columns), seed=3, distribution="hadamard", scale=max(rows, columns) ** -0.5)
    short = weight if rows <= columns else weight.t()
    product = short.double() @ short.double().t()
    assert torch.allclose(product, torch.eye(len(short), dtype=torch.float64), atol=1e-6)


def test_cut_matrices_are_nearer_to_orthogonal_than_independent_signs():
    def worst(distribution):
        weight = lottapack.draw("w", (300, 500), seed=3, distribution=distribution).double()
        product = weight @ weight.t() / 500
        return float((product - torch.eye(300)).square().mean().sqrt())

    assert worst("hadamard") < 0.5 * worst("sign1")


def test_seeds_and_names_give_other_matrices():
    drawn = [
        lottapack.draw(name, (32, 32), seed=seed, distribution="hadamard")
        for name, seed in (("a", 1), ("b", 1), ("a", 2))
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert 0.3 < float((drawn[one] == drawn[other]).float().mean()) < 0.7


def test_models_train_pack_and_load(tmp_path):
    net = nn.Sequential(nn.Conv1d(8, 16, 3), nn.Flatten(), nn.Linear(32, 24), nn.Linear(24, 4))
    options = {"distribution": "hadamard", "init": "orthonormal", "targets": ["0", "2"], "rank": 2}
    model = models.train(lottapack.scaffold(net, seed=5, scaffolds={"other": 6}, **options))
    pack = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    assert lottapack.verify(pack).ok
    x = torch.randn(3, 8, 4)
    assert torch.equal(lottapack.load(pack)(x), model(x))
    weight = lottapack.load(pack)[2].backbone
    assert torch.allclose(weight @ weight.t(), torch.eye(24) * weight.square().sum(1), atol=1e-5)
    arrays = lottapack.numpy.load(pack)
    for name, value in lottapack.load(pack, merge=True).state_dict().items():
        assert np.array_equal(arrays[name].view(np.uint32), value.numpy().view(np.uint32))
    assert not torch.equal(lottapack.load(pack, scaffold="other")[2].backbone, weight)
    for backbone in ("virtual", "blocks"):
        with pytest.raises(UnsupportedError, match="hadamard"):
            lottapack.load(pack, backbone=backbone)


def test_a_device_with_one_launch_for_all_gets_no_matrix(monkeypatch):
    """The backend of a GPU, whose kernels do not have this distribution, is not asked for it."""
    own = backends.select(torch.device("cpu"))

    def generate(jobs, device, fingerprints):
        raise AssertionError("a kernel would draw the stream of sign1")

    monkeypatch.setattr(backends, "select", lambda _: replace(own, generate=generate))
    one, plain = source((4, 8)), rng.Source(1, "plain", rng.builtin("normal16"), 0.5, "float32")
    expected = rng.fill_(torch.empty(4, 8), one)
    found, other = torch.empty(4, 8), torch.empty(5)
    prints = rng.fill_all_([(found, one), (other, plain)], fingerprints=True)
    assert torch.equal(found, expected)
    assert torch.equal(other, rng.fill_(torch.empty(5), plain))
    assert rng.fingerprints_on(torch.device("cpu"), [(one, 32), (plain, 5)]) == prints


def test_kernels_refuse_what_they_would_draw_otherwise():
    one = source((4, 4))
    with pytest.raises(UnsupportedError, match="cannot be generated here"):
        _ = one.halves
    with pytest.raises(UnsupportedError, match="cannot be generated here"):
        _ = one.fields
    with pytest.raises(UnsupportedError, match="its shape is needed"):
        source(None)
    with pytest.raises(UnsupportedError, match=r"longer than 2\*\*29"):
        source((1, 2**29 + 1))
    with pytest.raises(UnsupportedError, match="exceed a matrix"):
        lottapack.draw("w", (4, 4), seed=1, distribution="hadamard", start=1)
