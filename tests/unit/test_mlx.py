"""MLX arrays: the bits of torch's state dict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import UnsupportedError

mx = pytest.importorskip("mlx.core")

FILES = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"
WORDS = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}


@pytest.mark.parametrize("name", ["backbone_dtypes", "every_role", "tied_chain", "coded_adapters", "convolution"])
def test_vectors_have_their_bits(name):
    path = FILES / f"{name}.lotta.safetensors"
    expected = lottapack.load(path, merge=True).state_dict()
    found = lottapack.mlx.load(path)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        words = WORDS[tensor.element_size()]
        bits = np.array(
            found[key].view(words) if found[key].ndim else mx.view(found[key].reshape(1), words).reshape(())
        )
        assert (found[key].shape, str(found[key].dtype)) == (
            tuple(tensor.shape),
            str(tensor.dtype).replace("torch", "mlx.core"),
        )
        assert bits.tobytes() == tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(), key


def test_it_computes_what_the_model_does(tmp_path):
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    pack = lottapack.pack(lottapack.scaffold(model, seed=5, rank=2), tmp_path / "m.lotta.safetensors").path
    weights = lottapack.mlx.load(pack)
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 16)
    hidden = mx.maximum(mx.array(x) @ weights["0.weight"].T + weights["0.bias"], 0)
    with torch.no_grad():
        expected = lottapack.load(pack)(torch.from_numpy(x)).numpy()
    assert np.allclose(np.array(hidden @ weights["2.weight"].T + weights["2.bias"]), expected, atol=1e-5)


def test_64_bits_are_not_cut():
    with pytest.raises(UnsupportedError, match="float64, which MLX would cut to 32 bits"):
        lottapack.mlx.load(FILES / "every_dtype.lotta.safetensors")
