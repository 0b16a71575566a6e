"""JAX arrays: the bits of torch's state dict, on a device, as a pytree."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import UnsupportedError

jax = pytest.importorskip("jax")

FILES = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"


def same(array, tensor):
    bits = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[tensor.element_size()]
    expected = tensor.contiguous().view(getattr(torch, np.dtype(bits).name)).numpy()
    return array.shape == tuple(tensor.shape) and np.array_equal(np.asarray(array).view(bits), expected)


@pytest.fixture
def pack(tmp_path):
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    lottapack.scaffold(model, seed=5, rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return lottapack.pack(model, tmp_path / "m.lotta.safetensors").path


def test_the_bits_are_those_of_torch(pack):
    expected, found = lottapack.load(pack, merge=True).state_dict(), lottapack.jax.load(pack)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert isinstance(found[name], jax.Array)
        assert same(found[name], tensor), name


def test_it_is_a_pytree_that_computes_what_the_model_does(pack):
    tree = lottapack.jax.load(pack, nested=True, device=jax.devices()[0])
    assert {name: set(layer) for name, layer in tree.items()} == {"0": {"weight", "bias"}, "2": {"weight", "bias"}}
    assert len(jax.tree.leaves(tree)) == 4

    @jax.jit
    def model(weights, x):
        hidden = jax.nn.relu(x @ weights["0"]["weight"].T + weights["0"]["bias"])
        return hidden @ weights["2"]["weight"].T + weights["2"]["bias"]

    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16)
    with torch.no_grad():
        expected = lottapack.load(pack)(torch.from_numpy(x)).numpy()
    assert np.allclose(model(tree, x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["backbone_dtypes", "every_role", "tied_chain", "coded_adapters", "magnitude"])
def test_vectors_have_their_bits(name):
    path = FILES / f"{name}.lotta.safetensors"
    expected = lottapack.load(path, merge=True).state_dict()
    found = lottapack.jax.load(path)
    assert all(same(found[key], tensor) for key, tensor in expected.items())
    assert {str(found[key].dtype) for key in expected} == {
        str(t.dtype).removeprefix("torch.") for t in expected.values()
    }


def test_64_bits_are_not_cut(tmp_path):
    path = FILES / "every_dtype.lotta.safetensors"
    with pytest.raises(UnsupportedError, match="which JAX would cut to 32 bits"):
        lottapack.jax.load(path)
    with jax.enable_x64(True):
        found = lottapack.jax.load(path)
    expected = lottapack.numpy.load(path)
    for name, array in expected.items():
        assert np.array_equal(np.asarray(found[name]).astype(array.dtype), array, equal_nan=True), name


def test_names_that_begin_alike_are_refused():
    from lottapack.jax.loading import _nested

    for names in (("a", "a.b"), ("a.b", "a")):
        with pytest.raises(UnsupportedError, match="cannot be nested"):
            _nested(dict.fromkeys(names))
