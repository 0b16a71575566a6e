"""scaffold() on the meta device: roles and adapters without values, and how values get there."""

import pickle

import pytest
import torch
from models import all_bits, mlp, output, tied_llama
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError
from lottapack.format.recipe import BUFFER
from lottapack.nn import recipe_of, regenerate_


def on_meta(make):
    with torch.device("meta"):
        return make()


@pytest.mark.parametrize("make", [mlp, tied_llama])
@pytest.mark.parametrize("options", [{}, {"vera": True}, {"frozen_factor": "lora_A"}, {"beta": "input"}])
def test_a_plan_is_that_of_the_model_in_memory_and_nothing_has_memory(make, options):
    model = lottapack.scaffold(on_meta(make), seed=1, rank=2, **options)
    real = lottapack.scaffold(make(), seed=1, rank=2, **options)
    assert recipe_of(model) == recipe_of(real)
    mine, theirs = model.state_dict(), real.state_dict()
    assert {name: (one.shape, one.dtype) for name, one in mine.items()} == {
        name: (one.shape, one.dtype) for name, one in theirs.items()
    }
    assert torch.equal(mine.pop(BUFFER), theirs.pop(BUFFER))
    assert all(tensor.is_meta for tensor in mine.values())


@pytest.mark.parametrize(
    ("make", "given"), [(mlp, torch.ones(1, 16)), (tied_llama, torch.ones(1, 4, dtype=torch.long))]
)
@pytest.mark.parametrize("options", [{}, {"vera": True}, {"frozen_factor": "lora_A"}])
def test_a_checkpoint_gives_it_all_values(make, given, options, tmp_path):
    real = lottapack.scaffold(make(), seed=1, rank=2, **options)
    with torch.no_grad():
        for parameter in real.parameters():
            parameter.add_(0.5)
    model = lottapack.scaffold(on_meta(make), seed=1, rank=2, **options).to_empty(device="cpu")
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.view(torch.uint8).fill_(255)
    regenerate_(model).load_state_dict(real.state_dict())
    assert all_bits(model) == all_bits(real)
    assert torch.equal(output(model, given), output(real, given))
    paths = [tmp_path / name for name in ("one.lotta.safetensors", "two.lotta.safetensors")]
    for one, path in zip((model, real), paths, strict=True):
        lottapack.pack(one, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("make", [mlp, tied_llama])
def test_a_pack_gives_it_all_values(make, tmp_path):
    path = tmp_path / "model.lotta.safetensors"
    real = lottapack.scaffold(make(), seed=1, rank=2)
    lottapack.pack(real, path)
    model = lottapack.distributed.fill_(lottapack.scaffold(on_meta(make), seed=1, rank=2), path)
    assert all_bits(model) == all_bits(real)
    lottapack.pack(model, tmp_path / "again.lotta.safetensors")
    assert (tmp_path / "again.lotta.safetensors").read_bytes() == path.read_bytes()


def test_values_of_another_scaffold_do_not_count():
    model = lottapack.scaffold(on_meta(mlp), seed=1, rank=2).to_empty(device="cpu")
    with pytest.raises(CheckpointError, match="another scaffold"):
        model.load_state_dict(lottapack.scaffold(mlp(), seed=2, rank=2).state_dict())
    with pytest.raises(CheckpointError, match="has not been given values since"):
        model(torch.ones(1, 16))


def test_memory_that_nothing_was_written_to_is_neither_run_nor_packed(tmp_path):
    model = lottapack.scaffold(on_meta(mlp), seed=1, rank=2)
    with pytest.raises(CheckpointError, match="meta device"):
        lottapack.pack(model, tmp_path / "model.lotta.safetensors")
    assert model(torch.empty(1, 16, device="meta")).is_meta
    model = regenerate_(pickle.loads(pickle.dumps(model)).to_empty(device="cpu"))
    for held in (model, nn.Sequential(model)):
        with pytest.raises(CheckpointError, match="has not been given values since"):
            lottapack.pack(held, tmp_path / "model.lotta.safetensors")
        with pytest.raises(CheckpointError, match="has not been given values since"):
            held(torch.ones(1, 16))
    assert not list(tmp_path.iterdir())


def test_a_model_of_which_a_part_has_memory_is_refused():
    model = mlp()
    model[2].to("meta")
    with pytest.raises(ScaffoldError, match=r"^2\.weight is on the meta device"):
        lottapack.scaffold(model, seed=1, rank=2)
