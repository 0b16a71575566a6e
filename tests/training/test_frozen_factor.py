"""Adapters with one factor from the seed: trained, packed, loaded and read everywhere."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import ScaffoldError
from lottapack.format.descriptor import Coding


def built(factor, **options):
    net = nn.Sequential(nn.Embedding(40, 24), nn.Linear(24, 32), nn.Conv1d(6, 8, 3), nn.Linear(30, 10))
    options = {"seed": 9, "rank": 4, "targets": ["0", "1", "2"], "train": "heads", "frozen_factor": factor} | options
    return lottapack.scaffold(net, **options)


def trained(factor, **options):
    """Keep the drawn frozen factor and change everything else."""
    model = built(factor, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def entries(path):
    with lottapack.open_pack(path) as pack:
        return pack.descriptor.parameters, set(pack.tensors)


@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_a_step_leaves_the_factor_alone(factor):
    model = built(factor)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    assert not any(before[f"{layer}.{factor}"].eq(0).all() for layer in "012")
    other = "lora_B" if factor == "lora_A" else "lora_A"
    assert all(before[f"{layer}.{other}"].eq(0).all() for layer in "012")
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=1.0)
    out = model[2](model[1](model[0](torch.arange(6)[None])))
    torch.autograd.backward(out.square().sum())
    optimizer.step()
    for name, value in model.named_parameters():
        if name.endswith(factor):
            assert not value.requires_grad
            assert torch.equal(value, before[name])
    assert not torch.equal(model.get_parameter(f"1.{other}"), before[f"1.{other}"])


@pytest.mark.parametrize("scaffolds", [None, {"other": 10}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("factor", ["lora_A", "lora_B"])
def test_the_factor_is_not_in_the_pack(factor, dtype, scaffolds, tmp_path):
    model = trained(factor, scaffolds=scaffolds).to(dtype)
    result = lottapack.pack(model, tmp_path / "a.lotta.safetensors")
    parameters, tensors = entries(result.path)
    for layer in "012":
        adapter = parameters[f"{layer}.weight"].adapter
        assert isinstance(getattr(adapter, factor).coding, Coding)
        assert getattr(adapter, factor).coding.id == "seeded"
        assert f"{layer}.{factor}" not in tensors
    assert lottapack.verify(result.path).ok
    loaded = lottapack.load(result.path)
    for name, value in model.state_dict().items():
        if name != "lottapack_recipe":
            assert torch.equal(loaded.state_dict()[name], value)
    assert {name for name, value in loaded.named_parameters() if not value.requires_grad} >= {
        f"{layer}.{factor}" for layer in "012"
    }
    again = lottapack.pack(loaded, tmp_path / "b.lotta.safetensors")
    assert again.path.read_bytes() == result.path.read_bytes()
    arrays, merged = lottapack.numpy.load(result.path), lottapack.load(result.path, merge=True).state_dict()
    for name, value in merged.items():
        wide = np.asarray(arrays[name], np.float32) if dtype != torch.bfloat16 else arrays[name]
        assert np.array_equal(wide, value.float().numpy())
    if scaffolds:
        with lottapack.switch(model, "other"):
            expected = model[1].merged_weight()
        assert torch.equal(lottapack.load(result.path, scaffold="other")[1].merged_weight(), expected)


@pytest.mark.filterwarnings("ignore::lottapack.errors.UnusedOptionWarning")
def test_it_halves_the_adapters_and_compresses_the_rest(tmp_path):
    plain = lottapack.pack(trained(None), tmp_path / "a.lotta.safetensors")
    small = lottapack.pack(trained("lora_A"), tmp_path / "b.lotta.safetensors")
    assert plain.size - small.size > 4 * 4 * (24 + 18) - 400
    coded = lottapack.pack(
        trained("lora_A"),
        tmp_path / "c.lotta.safetensors",
        compression=lottapack.Compression(dtype="float16", coding={"adapters": "planes-zlib"}),
    )
    adapter = entries(coded.path)[0]["1.weight"].adapter
    assert adapter.lora_A.coding.id == "seeded"
    assert adapter.lora_A.dtype == "float32"
    assert adapter.lora_B.dtype == "float16"
    forms = {one.name: one.coding for one in lottapack.inspect(small.path).parameters}
    assert (forms["1.weight"], forms["3.weight"]) == ("lora_A seeded", None)
    trained_numbers = lottapack.inspect(small.path).trained
    assert lottapack.inspect(plain.path).trained - trained_numbers == 4 * (40 + 24 + 18)


def test_checkpoints_and_a_factor_that_was_trained_after_all(tmp_path):
    model = trained("lora_A")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    from_file = lottapack.pack(tmp_path / "m.pt", tmp_path / "a.lotta.safetensors")
    assert from_file.path.read_bytes() == lottapack.pack(model, tmp_path / "b.lotta.safetensors").path.read_bytes()
    with torch.no_grad():
        model[1].lora_A += 1
    changed = lottapack.pack(model, tmp_path / "c.lotta.safetensors").path
    parameters, tensors = entries(changed)
    assert "1.lora_A" in tensors
    assert parameters["0.weight"].adapter.lora_A.coding.id == "seeded"
    loaded = lottapack.load(changed)
    assert torch.equal(loaded[1].lora_A, model[1].lora_A)
    assert loaded[1].lora_A.requires_grad
    assert not loaded[0].lora_A.requires_grad


def test_another_word_is_refused():
    with pytest.raises(ScaffoldError, match="frozen_factor='A': choose one of lora_A, lora_B"):
        built("A")


def test_checkpoints_go_with_models_of_the_same_factor():
    with pytest.raises(lottapack.errors.CheckpointError, match="another"):
        built(None).load_state_dict(trained("lora_A").state_dict())
    model = built("lora_A")
    model.load_state_dict(trained("lora_A").state_dict())


def test_factors_count_where_memory_is_bounded(tmp_path):
    """Otherwise a file of a few kilobytes would take more than it declares."""
    model = lottapack.scaffold(nn.Sequential(nn.Linear(64, 64)), seed=1, rank=64, targets="*", frozen_factor="lora_A")
    pack = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    plain, factor = 4 * (64 * 64 + 64), 3 * 4 * 64 * 64  # as it is drawn, in binary32, and its product with a vector
    for use in (lambda **options: lottapack.load(pack, merge=True, **options), lottapack.numpy.load, lottapack.verify):
        call = partial(use, pack) if use in (lottapack.numpy.load, lottapack.verify) else use
        call(max_bytes=plain + factor)
        with pytest.raises(lottapack.errors.LimitError):
            call(max_bytes=plain + factor - 1)


def test_weights_of_other_names_have_frozen_factors_too(tmp_path):
    torch.manual_seed(0)
    net = lottapack.build("python", "torch.nn:GRU", input_size=12, hidden_size=8)
    model = lottapack.scaffold(net, seed=3, rank=2, targets="weight_ih_l0", frozen_factor="lora_A")
    with torch.no_grad():
        model.weight_ih_l0_lora_B += torch.randn(24, 2)
    assert not model.weight_ih_l0_lora_A.requires_grad
    pack = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    parameters, tensors = entries(pack)
    assert parameters["weight_ih_l0"].adapter.lora_A.coding.id == "seeded"
    assert "weight_ih_l0_lora_A" not in tensors
    assert lottapack.verify(pack, allow="torch.nn").ok
    loaded = lottapack.load(pack, allow="torch.nn")
    assert torch.equal(loaded.weight_ih_l0_lora_A, model.weight_ih_l0_lora_A)
    assert not loaded.weight_ih_l0_lora_A.requires_grad
    x = torch.randn(3, 1, 12)
    assert torch.equal(loaded(x)[0], model(x)[0])
