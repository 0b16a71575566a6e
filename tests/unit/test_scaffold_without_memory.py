"""scaffold() on the meta device: roles and adapters without values, and how values get there."""

import pickle
import re

import pytest
import torch
from models import all_bits, mlp, output, tied_llama
from torch import nn

import lottapack
from lottapack.errors import ArchitectureError, CheckpointError, ScaffoldError
from lottapack.format.recipe import BUFFER
from lottapack.nn import recipe_of, regenerate_
from lottapack.nn.together import OneScaffold


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


@pytest.mark.parametrize("options", [{"vera": True}, {"frozen_factor": "lora_A"}, {"frozen_factor": "lora_B"}])
def test_a_pack_with_other_factors_than_the_seeds_gives_it_all_values(options, tmp_path):
    """The pack stores such factors, and its recipe does not say any more that they follow from the seed."""
    path = tmp_path / "model.lotta.safetensors"
    real = lottapack.scaffold(mlp(), seed=1, rank=2, **options)
    with torch.no_grad():
        for parameter in real.parameters():
            parameter.add_(0.5)
    lottapack.pack(real, path)
    model = lottapack.distributed.fill_(lottapack.scaffold(on_meta(mlp), seed=1, rank=2, **options), path)
    assert all_bits(model) == all_bits(real)
    lottapack.pack(model, tmp_path / "again.lotta.safetensors")
    assert (tmp_path / "again.lotta.safetensors").read_bytes() == path.read_bytes()


def test_a_pack_that_does_not_fit_says_why(tmp_path):
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2, vera=True).bfloat16(), path)
    for options, why in (
        ({"seed": 1, "vera": True}, "0.weight is float32 in the model and bfloat16 in the pack"),
        ({"seed": 2, "vera": True}, "its seeds are {'default': 2}, and those of the pack {'default': 1}"),
    ):
        model = lottapack.scaffold(on_meta(mlp), rank=2, **options)
        with pytest.raises(ArchitectureError, match=re.escape(f"does not fit the model: {why}")):
            lottapack.distributed.fill_(model, path)
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    with pytest.raises(ArchitectureError, match="does not fit the model: its roles or settings are others"):
        lottapack.distributed.fill_(lottapack.scaffold(on_meta(mlp), seed=1, rank=2, vera=True), path)


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


def emptied(model):
    """Give a model on the meta device memory, with numbers that nobody chose."""
    model = model.to_empty(device="cpu")
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.view(torch.uint8).fill_(65)
    return model


def altered(make, **options):
    """A scaffolded model, of which each trained number is another than at first."""
    model = lottapack.scaffold(make(), seed=1, rank=2, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5)
    return model


@pytest.mark.parametrize(
    ("make", "given"), [(mlp, torch.ones(1, 16)), (tied_llama, torch.ones(1, 4, dtype=torch.long))]
)
@pytest.mark.parametrize("options", [{}, {"vera": True}, {"persistent": True}, {"scaffolds": {"b": 7}}])
def test_a_checkpoint_is_enough(make, given, options, tmp_path):
    """load_state_dict() generates the backbone too, which it does not hold."""
    real, path = altered(make, **options), tmp_path / "model.lotta.safetensors"
    lottapack.pack(real, path)
    for model in (
        lottapack.scaffold(on_meta(make), seed=1, rank=2, **options),
        lottapack.distributed.load_meta(path),
        lottapack.distributed.load_meta(path, backbone="parameter"),
    ):
        emptied(model).load_state_dict(real.state_dict())
        assert torch.equal(output(model, given), output(real, given))
        waiting = [hook for part in model.modules() for hook in part._forward_pre_hooks.values()]
        assert options.get("scaffolds") or all(isinstance(hook, OneScaffold) for hook in waiting)


def test_a_checkpoint_with_a_trained_backbone_is_still_compared():
    state = altered(mlp, persistent=True).state_dict()
    state["0.backbone"] = state["0.backbone"] + 1
    with pytest.raises(CheckpointError, match="differs from what the recipe's seed generates"):
        emptied(lottapack.scaffold(on_meta(mlp), seed=1, rank=2)).load_state_dict(state)


@pytest.mark.parametrize("regenerate", [False, True])
def test_a_part_of_the_values_does_not_count(regenerate, tmp_path):
    state, path = altered(mlp).state_dict(), tmp_path / "model.lotta.safetensors"
    lottapack.pack(altered(mlp), path)
    del state["0.lora_B"]
    for plan in (lottapack.scaffold(on_meta(mlp), seed=1, rank=2), lottapack.distributed.load_meta(path)):
        model = emptied(plan)
        if regenerate:
            regenerate_(model)
        model.load_state_dict(state, strict=False)
        for run in (model, model[0]):
            with pytest.raises(CheckpointError, match="has not been given values since"):
                run(torch.ones(1, 16))
        with pytest.raises(CheckpointError, match="has not been given values since"):
            lottapack.pack(model, path)
        with pytest.raises(CheckpointError, match="of a model without values"):
            lottapack.pack(model.state_dict(), path)
        with pytest.raises(CheckpointError, match="of a model without values"):
            altered(mlp).load_state_dict(model.state_dict())


def test_a_tensor_of_another_shape_does_not_count():
    """torch loads the others, and raises afterwards."""
    model, state = emptied(lottapack.scaffold(on_meta(mlp), seed=1, rank=2)), altered(mlp).state_dict()
    state["0.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"0\.bias has shape \(3,\) in the checkpoint, but \(12,\)"):
        model.load_state_dict(state, strict=False)
    with pytest.raises(CheckpointError, match="has not been given values since"):
        model(torch.ones(1, 16))


def test_values_without_a_backbone_do_not_count():
    """With assign=True torch keeps the backbone on the meta device, and to_empty() gives it memory later."""
    model = lottapack.scaffold(on_meta(mlp), seed=1, rank=2)
    model.load_state_dict(altered(mlp).state_dict(), assign=True)
    for one in (model, emptied(model)):
        with pytest.raises(CheckpointError, match="has not been given values since"):
            one(torch.ones(1, 16))


def test_a_model_of_which_a_part_has_memory_is_refused():
    model = mlp()
    model[2].to("meta")
    with pytest.raises(ScaffoldError, match=r"^2\.weight is on the meta device"):
        lottapack.scaffold(model, seed=1, rank=2)
