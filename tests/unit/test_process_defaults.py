"""Process-wide settings of torch do not change tensors: default dtype and device, inference mode."""

import importlib.util
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from models import named, same
from torch import nn

import lottapack
from lottapack import distributed, rng
from lottapack.arch.budget import Budget
from lottapack.arch.skeleton import build_skeleton
from lottapack.errors import UnsupportedError
from lottapack.products import declared as declared_products
from lottapack.products import layout
from lottapack.products import product as products
from lottapack.products.product import Matrix
from lottapack.rng import backends
from lottapack.rng.kernels import declared
from lottapack.rng.kernels.kernel import Memory

DTYPES = [torch.bfloat16, torch.float16, torch.float64]
SOURCE = rng.Source(7, "a", rng.builtin("sign1"), 0.5, "float32")


@contextmanager
def defaults(dtype=torch.float32, device="cpu", deterministic=False):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
        torch.use_deterministic_algorithms(False)


def same_state(one, other):
    one, other = named(one), named(other)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.device == other[name].device, name
        assert same(tensor, other[name]), name


@pytest.fixture
def pack(tmp_path):
    layers = nn.Sequential(nn.Embedding(9, 12), nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 6))
    lottapack.pack(lottapack.scaffold(layers, seed=3, rank=2, targets="*", distribution="sign1"), tmp_path / "p")
    return tmp_path / "p"


@pytest.mark.parametrize("n", [1, 2, 8, 32, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_is_the_same_under_every_default(dtype, n):
    x = torch.randn(n, 64, generator=torch.Generator().manual_seed(n))
    matrix = Matrix(SOURCE, (4096, 64))
    due = products.product(x, matrix)
    for device in ("cpu", "meta"):
        with defaults(dtype, device):
            found = products.product(x, matrix)
        assert found.dtype == torch.float32
        assert same(found, due)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_models_are_the_same_under_every_default(pack, dtype, device):
    ways = {
        "load": lambda: lottapack.load(pack),
        "merged": lambda: lottapack.load(pack, merge=True),
        "bfloat16": lambda: lottapack.load(pack, dtype=torch.bfloat16),
        "blocks": lambda: lottapack.load(pack, backbone="blocks"),
        "virtual": lambda: lottapack.load(pack, backbone="virtual"),
        "fill_": lambda: distributed.fill_(distributed.load_meta(pack), pack, device="cpu"),
        "parameter": lambda: distributed.fill_(distributed.load_meta(pack, backbone="parameter"), pack),
        "merged fill_": lambda: distributed.fill_(distributed.load_meta(pack, merge=True), pack),
    }
    given = torch.tensor([[1, 3, 8]])
    for name, way in ways.items():
        due = way()
        with defaults(dtype, device, deterministic=True):
            found = way()
            output = found(given)
        same_state(found, due)
        assert same(output, due(given)), name
        for one, other in zip(found.modules(), due.modules(), strict=True):
            if hasattr(one, "weight"):
                assert (one.weight.dtype, one.weight.device) == (other.weight.dtype, other.weight.device), name
                assert same(one.weight, other.weight), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pack_has_the_same_bytes_under_every_default(pack, tmp_path, dtype):
    model, merged = lottapack.load(pack), lottapack.load(pack, merge=True)
    with torch.no_grad():
        model[1].lora_B.fill_(0.25)
    written = []
    for number, (kind, device) in enumerate([(torch.float32, "cpu"), (dtype, "meta")]):
        with defaults(kind, device):
            lottapack.pack(model, tmp_path / f"{number}")
            options = {"seed": 3, "max_rank": 2, "distribution": "sign1", "architecture": merged}
            lottapack.pack(lottapack.recover.merged(merged.state_dict(), **options), tmp_path / f"merged{number}")
        written.append([(tmp_path / f"{name}{number}").read_bytes() for name in ("", "merged")])
    assert written[0] == written[1]


class Computed(nn.Module):
    """Only its constructor can compute the buffer, and does so in the default dtype."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("steps", torch.arange(8) / 7, persistent=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_constructor_computes_is_the_same_under_every_default(dtype):
    with defaults(dtype, "meta"):
        model = build_skeleton(Computed, "Computed", Budget())
        assert torch.get_default_dtype() == dtype
    assert model.linear.weight.dtype == torch.float32
    assert torch.equal(model.steps, torch.arange(8) / 7)


def test_a_model_that_is_loaded_in_inference_mode_can_be_trained(pack):
    ways = (
        lambda: lottapack.load(pack),
        lambda: lottapack.load(pack, backbone="blocks"),
        lambda: distributed.fill_(distributed.load_meta(pack), pack),
    )
    for way in ways:
        with torch.inference_mode():
            model = way()
        model(torch.tensor([[1, 3]])).sum().backward()
        assert model[1].lora_B.grad is not None


def test_a_tensor_whose_memory_was_taken_away_is_not_written_to():
    for count in (0, 1023):
        tensor = torch.zeros(1024, dtype=torch.float32)
        tensor.untyped_storage().resize_(count * 4)
        for call in (lambda t: rng.fill_(t, SOURCE), rng.fingerprint, lambda t: rng.fill_all_([(t, SOURCE)])):
            with pytest.raises(
                UnsupportedError, match=rf"does not have its memory: its storage holds {count * 4:,} bytes"
            ):
                call(tensor)


@pytest.mark.skipif(not backends.numba_works(), reason="no numba")
def test_sizes_that_do_not_agree_reach_no_kernel():
    key, table, wide = (1, 2, 3, 4), np.zeros(2, np.uint32), np.zeros(4096, np.uint32)
    product, back = declared_products.PRODUCT, declared_products.TRANSPOSED
    out, x = np.zeros(2 * 8, np.float32), np.zeros(2 * 16, np.float32)
    held, space = layout.bits_around(16), np.zeros(layout.product_space(8, 16), np.uint32)
    sums, bits = np.zeros(2 * 512, np.float32), np.zeros(layout.bits_space(0, 16, 8), np.uint32)
    chunk = np.zeros(layout.transposed_space(1), np.uint32)
    dots = out, np.zeros(2 * 16, np.uint16), np.zeros(16 * 8, np.uint16)
    runs = np.array([0, 5]), np.array([2, 3])
    few = np.zeros(0, np.uint32)
    calls = [
        lambda: product(out, x, space, 8, held, 16, 0, 9, 1.0, *key),  # rows beyond the result
        lambda: product(out, x, space, 8, held, 17, 0, 8, 1.0, *key),  # inputs beyond their memory
        lambda: product(out, x, space, 8, held, 16, 5, 4, 1.0, *key),
        lambda: product(out, x, space, 8, held + 16, 16, 0, 8, 1.0, *key),
        lambda: product(out, x, space[1:], 8, held, 16, 0, 8, 1.0, *key),  # too little space
        lambda: back(sums, x, chunk, bits, 256, 16, 0, 16, 8, 0, 2, 0, 1, 1),
        lambda: declared_products.SIGNS(space[:1023], 0, *key),
        lambda: back(sums[:1023], x, chunk, bits, 512, 16, 0, 16, 8, 0, 2, 0, 1, 1),
        lambda: back(sums, x[1:], chunk, bits, 512, 16, 0, 16, 8, 0, 2, 0, 1, 1),
        lambda: back(sums, x, chunk[1:], bits, 512, 16, 0, 16, 8, 0, 2, 0, 1, 1),
        lambda: back(sums, x, chunk, bits[1:], 512, 16, 0, 16, 8, 0, 2, 0, 1, 1),
        lambda: back(sums, x, chunk, bits, 512, 16, 1024, 16, 8, 0, 2, 0, 1, 1),
        lambda: back(sums, x, chunk, bits, 512, 16, 0, 17, 8, 0, 2, 0, 1, 1),
        lambda: back(sums, x, chunk, bits, 512, 16, 0, 16, 8, 0, 3, 0, 1, 1),
        lambda: back(sums, x, chunk, bits, 512, 16, 0, 16, 8, 0, 2, 0, 2, 1),
        lambda: declared_products.ORDERED(out, sums, 512, 8, 0, 3, 1.0),  # rows beyond the result
        lambda: declared_products.ORDERED(out, sums, 512, 7, 0, 2, 1.0),
        lambda: declared_products.ORDERED(out, sums, 1024, 8, 0, 2, 1.0),
        lambda: declared_products.ORDERED(out, sums[1:], 512, 8, 0, 2, 1.0),
        lambda: declared_products.ORDERED(out, sums, 512, 0, 0, 2, 1.0),
        lambda: declared_products.DOTS(*dots, space, 0, 16, 8, 0, 9, 1),
        lambda: declared_products.DOTS(*dots, space, 1, 16, 8, 0, 8, 1),
        lambda: declared_products.DOTS(*dots, space, 0, 15, 8, 0, 8, 1),
        lambda: declared_products.DOTS(*dots, space, 0, 16, 7, 0, 7, 1),
        lambda: declared_products.DOTS(*dots, space[: layout.dots_space(2) - 1], 0, 16, 8, 0, 8, 1),
        lambda: declared.FILL(wide, 0, 0, table, 2, 0.0, 0, *key),  # a table of two entries, indices of two bits
        lambda: declared.FILL(wide, 0, 0, table, 3, 0.0, 0, *key),
        lambda: declared.FILL(wide, 0, 0, table, 1, 0.0, 1, *key),  # bfloat16 in memory of float32
        lambda: declared.FILL(wide, 0, 0, table, 1, 0.0, 4, *key),
        lambda: declared.FINGERPRINT_BLOCKS(wide, 9, 0, table, 1, 0.0, 0, *key),
        lambda: declared.FILL_RUNS(wide[:6], *runs, few, 32768, table, 1, 0.0, 0, *key),
        lambda: declared.FILL_RUNS(wide[:5], *runs, few, 1024, table, 1, 0.0, 0, *key),
        lambda: declared.FILL_RUNS(wide[:5], *runs, wide, 32768, table, 1, 0.0, 0, *key),
    ]
    if declared.FORMULA:
        rows, half = np.zeros(320, np.float32), np.zeros(4096, np.uint16)
        calls += [
            lambda: declared.BLOCKS16(half, wide[:1024], rows, 1.0, 1),
            lambda: declared.BLOCKS16(half, wide[:2048], rows, 1.0, 0),
            lambda: declared.BLOCKS16(half, wide[:2048], rows[:192], 1.0, 1),
            lambda: declared.FILL_NORMAL16(wide, 0, 0, rows[1:], 1.0, 0, *key),
            lambda: declared.FINGERPRINT_NORMAL16(wide, 9, 0, rows, 1.0, 0, *key),
        ]
    for call in calls:
        with pytest.raises(TypeError, match="do not agree"):
            call()
    for array in (wide, out):
        array.flags.writeable = False
    with pytest.raises(TypeError, match="do not agree"):
        product(out, x, space, 8, held, 16, 0, 8, 1.0, *key)
    with pytest.raises(TypeError, match="do not agree"):
        declared.FILL(wide, 0, 0, table, 1, 0.0, 0, *key)
    with pytest.raises(TypeError, match=r"a tensor of torch.float64 on cpu"):
        Memory.of_tensor(torch.zeros(3, dtype=torch.float64))


def test_the_plug_in_sets_defaults_for_as_long_as_a_function_runs():
    """tests/other_defaults.py, which reruns parts of the tests, detects faulty code."""
    spec = importlib.util.spec_from_file_location("other_defaults", Path(__file__).parents[1] / "other_defaults.py")
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    faulty = plugin.wrapped(lambda: torch.zeros(1), ["bfloat16", "meta", "deterministic"])
    assert (faulty().dtype, faulty().device.type) == (torch.bfloat16, "meta")
    inner = plugin.wrapped(
        lambda: (faulty(), torch.are_deterministic_algorithms_enabled()), ["float64", "deterministic"]
    )
    made, deterministic = inner()
    assert (made.dtype, made.device.type, deterministic) == (torch.float64, "cpu", True)
    assert (torch.zeros(1).dtype, torch.zeros(1).device.type) == (torch.float32, "cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    names = [module.__name__ for module in plugin.modules()]
    assert {"lottapack.products.product", "lottapack.nn.layers", "lottapack.loading.filling"} <= {*names}
