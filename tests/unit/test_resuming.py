"""A run resumes from another's checkpoint, however each keeps its backbone."""

import copy

import pytest
import torch
import torch.distributed.checkpoint as dcp
from models import all_bits, cnn, mlp, output, text, tied_llama, train
from torch import nn

import lottapack
from lottapack import distributed
from lottapack.errors import BackboneChangedWarning, CheckpointError

BUILD = {"mlp": mlp, "cnn": cnn, "text": text}


def packed(path, name="mlp", **options):
    return lottapack.pack(train(lottapack.scaffold(BUILD[name](), seed=5, rank=2, **options)), path) and path


def ways(pack, scaffold=None):
    return {
        "load": lambda: lottapack.load(pack, scaffold=scaffold),
        "blocks": lambda: lottapack.load(pack, scaffold=scaffold, backbone="blocks"),
        "buffer": lambda: distributed.fill_(distributed.load_meta(pack, scaffold=scaffold), pack),
        "parameter": lambda: distributed.fill_(
            distributed.load_meta(pack, scaffold=scaffold, backbone="parameter"), pack
        ),
    }


def weights(model):
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "weight")}
    return {name: getattr(layer, "backbone", layer.weight).detach().clone() for name, layer in layers.items()}


@pytest.mark.parametrize("scaffolds", [{}, {"b": 8}])
@pytest.mark.parametrize("name", BUILD)
def test_every_way_takes_up_every_other(name, scaffolds, tmp_path):
    pack = packed(tmp_path / "p", name, scaffolds=scaffolds)
    for saved, make in ways(pack, *scaffolds).items():  # with two scaffolds, it is saved on the other one
        state = {key: value.clone() for key, value in train(make()).state_dict().items()}
        for loaded, other in ways(pack).items():
            for assign in (False, True):
                model = other()
                due = weights(model)
                model.load_state_dict(dict(state), assign=assign)
                assert lottapack.nn.active_scaffold(model) == "default"
                trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
                assert trained
                for key, value in trained.items():
                    assert torch.equal(value, state[key]), (saved, loaded, key)
                for key, value in weights(model).items():
                    assert torch.equal(value, due[key]) or f"{key}.weight" in trained, (saved, loaded, key)


def test_a_backbone_that_was_trained_is_not_dropped_without_a_word(tmp_path):
    pack = packed(tmp_path / "p")
    state = dict(ways(pack)["parameter"]().state_dict())
    state["0.backbone"] = state["0.backbone"] + 1
    for way in ("load", "blocks", "buffer"):
        model = ways(pack)[way]()
        before = all_bits(model)
        with pytest.raises(
            CheckpointError, match=r"0\.weight in the checkpoint differs from what the recipe's seed generates"
        ):
            model.load_state_dict(dict(state))
        assert all_bits(model) == before


@pytest.mark.parametrize("scaffolds", [{"b": 8}, {"b": 8, "c": 9}])
def test_a_changed_backbone_of_several_scaffolds_is_not_dropped_without_a_word(scaffolds):
    """The model keeps its scaffold, so the backbone of a checkpoint must be that of one of them."""
    one, other = (lottapack.scaffold(mlp(), seed=1, rank=2, scaffolds=scaffolds, persistent=True) for _ in range(2))
    lottapack.switch(one, "b")
    for dtype in (torch.float32, torch.bfloat16):
        other.load_state_dict({n: t.to(dtype) if t.is_floating_point() else t for n, t in one.state_dict().items()})
    one[0].backbone.mul_(1.5)
    with pytest.raises(CheckpointError, match=r"0\.weight in the checkpoint differs from what the recipe's seed"):
        other.load_state_dict(one.state_dict())


def large():
    return nn.Sequential(nn.Linear(256, 160), nn.Linear(160, 4))


def test_one_changed_element_of_several_scaffolds_is_not_dropped_without_a_word():
    one, other = (lottapack.scaffold(large(), seed=1, rank=2, scaffolds={"b": 8}, persistent=True) for _ in range(2))
    lottapack.switch(one, "b")
    state = one.state_dict()
    for dtype in (torch.float32, torch.float16, torch.float64):
        given = {n: t.to(dtype, copy=True) if t.is_floating_point() else t for n, t in state.items()}
        other.load_state_dict(dict(given))
        given["0.backbone"][70, 200] += 0.01
        with pytest.raises(CheckpointError, match=r"0\.weight in the checkpoint differs from what the recipe's seed"):
            other.load_state_dict(given)


def test_another_recipe_is_refused_before_anything_is_put_in(tmp_path):
    pack = packed(tmp_path / "p", scaffolds={"b": 8})
    other = lottapack.scaffold(nn.Sequential(*mlp()), seed=6, rank=2, scaffolds={"b": 8})
    state = dict(other.state_dict())
    model = ways(pack)["parameter"]()
    with pytest.raises(CheckpointError, match="trained on another scaffold: seed 6, this model 5"):
        model.load_state_dict(state)


def written_by_torch(model, folder):
    """Write a model's state_dict with torch.distributed.checkpoint, which reads into tensors in place."""
    dcp.save(model.state_dict(), checkpoint_id=folder)
    return folder


ALONE = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@ALONE
@pytest.mark.parametrize("then", ["forward", "state_dict", "pack", "load_state_dict"])
@pytest.mark.parametrize("moment", ["same", "another"])
def test_adapters_of_another_seed_that_were_written_into_the_model_are_refused(then, moment, tmp_path):
    """Without set_model_state_dict() nothing of lottapack runs; the next use sees the recipe among the tensors."""
    model, other = (lottapack.scaffold(mlp(), seed=seed, rank=2) for seed in (1, 2))
    if moment == "another":
        for one in (model, other):
            one[0].bias.requires_grad_(False)
    model(torch.ones(2, 16))
    state = model.state_dict()
    dcp.load(state, checkpoint_id=written_by_torch(other, tmp_path / "other"))
    assert torch.equal(model[0].lora_A, other[0].lora_A)
    uses = {
        "forward": lambda: model(torch.ones(2, 16)),
        "state_dict": model.state_dict,
        "pack": lambda: lottapack.pack(model, tmp_path / "p"),
        "load_state_dict": lambda: model.load_state_dict(state),
    }
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"another scaffold.*: seed 2, this model 1"):
            uses[then]()
    model.load_state_dict(lottapack.scaffold(mlp(), seed=1, rank=2).state_dict())
    lottapack.pack(model, tmp_path / "p")


@ALONE
@pytest.mark.parametrize("inference", [False, True])
def test_a_checkpoint_that_was_written_into_the_model_is_taken_up(inference, tmp_path):
    model, other = (train(lottapack.scaffold(mlp(), seed=1, rank=2)) for _ in range(2))
    with torch.no_grad():
        other[0].lora_B.add_(1)
    for one in (model, other):
        one[0].bias.requires_grad_(False)
    with torch.inference_mode(inference):
        state = model.state_dict()
    dcp.load(state, checkpoint_id=written_by_torch(other, tmp_path / "other"))
    model(torch.ones(2, 16))
    assert all_bits(model) == all_bits(other)
    model.load_state_dict(other.state_dict())
    lottapack.pack(model, tmp_path / "p")
    assert not lottapack.nn.recipe_of(lottapack.load(tmp_path / "p")).parameters["0.bias"].trained


def test_a_recipe_whose_bytes_were_averaged_is_no_other_scaffold(tmp_path):
    model = train(lottapack.scaffold(mlp(), seed=1, rank=2))
    for tensor in model.state_dict().values():
        tensor.copy_(tensor * 0.5)
    model(torch.ones(2, 16))
    lottapack.pack(model, tmp_path / "p")


def test_memory_without_a_backbone_is_not_taken_for_one():
    """to_empty() loses the backbone, which no checkpoint holds."""
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = output(model, torch.ones(1, 16))
    for buffer in model.to_empty(device="cpu").buffers():
        buffer.fill_(7)
    with pytest.warns(BackboneChangedWarning, match=r"as after to_empty.* 0\.weight, 2\.weight\. For that of the seed"):
        model.load_state_dict(state)
    lottapack.nn.regenerate_(model).load_state_dict(state)
    assert torch.equal(output(model, torch.ones(1, 16)), expected)


@pytest.mark.parametrize("scaffolds", [{}, {"b": 8}])
def test_a_plain_layer_in_the_place_of_an_adapted_one_takes_its_values(scaffolds):
    """With several scaffolds a backbone stays on its own; a weight that is no backbone does not."""
    one, other = (lottapack.scaffold(mlp(), seed=1, rank=2, scaffolds=scaffolds) for _ in range(2))
    for model in (one, other):
        model[0] = nn.Linear(16, 12)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other[0].weight, one[0].weight)


def test_a_head_whose_embedding_was_replaced_is_refused(tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=2, targets=["embed_tokens"])
    model.model.embed_tokens = copy.deepcopy(model.model.embed_tokens)
    for content in (model, model.state_dict()):
        with pytest.raises(CheckpointError, match=r"lm_head\.weight uses an embedding that is not in the model"):
            lottapack.pack(content, tmp_path / "a")
    whole = copy.deepcopy(lottapack.scaffold(tied_llama(), seed=1, rank=2, targets=["embed_tokens"]))
    lottapack.pack(whole, tmp_path / "a")
