"""A run resumes from another's checkpoint, however each keeps its backbone."""

import pytest
import torch
from models import all_bits, cnn, mlp, text, train
from torch import nn

import lottapack
from lottapack import distributed
from lottapack.errors import CheckpointError

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


def test_another_recipe_is_refused_before_anything_is_put_in(tmp_path):
    pack = packed(tmp_path / "p", scaffolds={"b": 8})
    other = lottapack.scaffold(nn.Sequential(*mlp()), seed=6, rank=2, scaffolds={"b": 8})
    state = dict(other.state_dict())
    model = ways(pack)["parameter"]()
    with pytest.raises(CheckpointError, match="trained on another scaffold: seed 6, this model 5"):
        model.load_state_dict(state)
