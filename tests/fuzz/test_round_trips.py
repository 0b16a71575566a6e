"""Random models, recipes and tensors keep every bit; the same model gives the same file."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import all_bits, same
from torch import nn

import lottapack
from lottapack.folders import checkpoint
from lottapack.format import recipe
from lottapack.format.packfile import open_pack
from lottapack.packing.packer import Packer

# An entry of train may match nothing in a random model; scaffold() then says so.
pytestmark = pytest.mark.filterwarnings("ignore::lottapack.errors.UnusedOptionWarning")

FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="./\\"), min_size=1, max_size=8)


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    """Build a Sequential of a few layers, some nested, some used twice."""
    width = draw(st.integers(1, 9))
    layers: list[tuple[str, nn.Module]] = []
    # torch refuses names that every module has, such as __dict__.
    usable = NAMES.filter(lambda name: not hasattr(nn.Sequential(), name))
    names = draw(st.lists(usable, min_size=1, max_size=5, unique=True))
    for name in names:
        kind = draw(st.sampled_from(("linear", "conv", "norm", "embedding", "nested", "again", "relu")))
        if kind == "linear":
            layers.append((name, nn.Linear(width, width, bias=draw(st.booleans()))))
        elif kind == "conv":
            layers.append((name, nn.Conv1d(width, draw(st.integers(1, 4)), draw(st.integers(1, 3)))))
        elif kind == "norm":
            layers.append((name, nn.LayerNorm(width)))
        elif kind == "embedding":
            layers.append((name, nn.Embedding(draw(st.integers(1, 6)), width)))
        elif kind == "nested":
            layers.append((name, nn.Sequential(nn.Linear(width, 2), nn.BatchNorm1d(2))))
        elif kind == "again" and layers:
            layers.append((name, layers[0][1]))
        else:
            layers.append((name, nn.ReLU()))
    model = nn.Sequential()
    for name, layer in layers:
        model.add_module(name, layer)
    return model.to(draw(st.sampled_from(DTYPES)))


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """Return random arguments of scaffold()."""
    return {
        "seed": draw(st.integers(0, 2**64 - 1)),
        "rank": 1,
        "alpha": draw(st.floats(2.0**-10, 100, width=32)),
        "scaling": draw(st.sampled_from(("lora", "rslora"))),
        "distribution": draw(st.sampled_from(("normal16", "normal8", "normal2", "uniform16", "sign1"))),
        "beta": draw(st.sampled_from(("learned", 1.0))),
        "train": draw(st.sampled_from((["rest"], ["heads", "norms"], [], ["biases"]))),
    }


@FEW
@given(models(), choices(), st.integers(0, 2**32 - 1))
def test_models(model: nn.Module, arguments: dict[str, Any], seed: int) -> None:
    try:
        made = lottapack.scaffold(model, **arguments)
    except lottapack.errors.ScaffoldError as error:
        assert str(error)
        return
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a"), Path(folder, "b")
        lottapack.pack(made, first)
        assert lottapack.verify(first).ok
        loaded = lottapack.load(first, check_fingerprints=True)
        assert all_bits(loaded) == all_bits(made.eval())
        lottapack.pack(loaded, second)
        assert first.read_bytes() == second.read_bytes()
        plain = lottapack.load(first, merge=True).state_dict()
        lottapack.export(first, Path(folder, "full.safetensors"))
        from safetensors.torch import load_file

        full = load_file(Path(folder, "full.safetensors"))
        assert full.keys() == plain.keys()
        assert all(same(full[name], plain[name]) for name in full)


@FEW
@given(models(), choices())
def test_recipes(model: nn.Module, arguments: dict[str, Any]) -> None:
    try:
        made = lottapack.scaffold(model, **arguments)
    except lottapack.errors.ScaffoldError:
        return
    tensor = made.state_dict()[recipe.BUFFER]
    read = recipe.of_tensor(tensor)
    assert read.to_bytes() == tensor.numpy().tobytes()
    assert read.seed == arguments["seed"]


STORED = (torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, *DTYPES)


@FEW
@given(st.data())
def test_tensors(data: st.DataObject) -> None:
    """Any bits of any dtype and shape, all NaNs included, come back unchanged."""
    dtype = data.draw(st.sampled_from(STORED))
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    raw = bytearray(data.draw(st.binary(min_size=size, max_size=size)))
    if dtype is torch.bool:
        raw = bytearray(byte & 1 for byte in raw)
    tensor = torch.frombuffer(raw, dtype=dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    made = lottapack.scaffold(model, seed=1, rank=1, targets=["0"])
    made[1].running_mean = tensor
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a")
        # pack() refuses a buffer of another shape than the module's.
        Packer(*checkpoint.of_model(made), allow_nonfinite=True).write(path)
        with open_pack(path) as pack:
            entry = pack.descriptor.parameters["1.running_mean"]
            assert (entry.shape, f"torch.{entry.dtype}") == (shape, str(dtype))  # type: ignore[union-attr]
            if "1.running_mean" in pack.tensors:
                assert pack.read_bytes("1.running_mean") == raw
            else:
                assert size
                assert bytes.fromhex(entry.value)[::-1] * (size // dtype.itemsize) == raw  # type: ignore[union-attr]
