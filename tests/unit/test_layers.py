"""Adapter layers against the plain layers that they stand for."""

import copy
import io
import math
import warnings

import msgspec
import pytest
import torch
from models import bits
from torch import nn

import lottapack
from lottapack.format.descriptor import Architecture
from lottapack.format.recipe import Recipe, RecipeRng
from lottapack.nn import AdapterLayer
from lottapack.nn.attach import attach
from lottapack.nn.planning import Planner
from lottapack.nn.scales import Width, tables_of
from lottapack.nn.select import entries_of


def conv1d(**options):
    return nn.Conv1d(4, 6, 3, **options), torch.randn(2, 4, 9)


def conv2d(**options):
    return nn.Conv2d(4, 6, 3, **options), torch.randn(2, 4, 9, 7)


def transformers_conv1d():
    from transformers.pytorch_utils import Conv1D

    return Conv1D(6, 10), torch.randn(2, 5, 10)


CASES = {
    "linear": lambda: (nn.Linear(10, 6), torch.randn(2, 5, 10)),
    "linear without bias": lambda: (nn.Linear(10, 6, bias=False), torch.randn(3, 10)),
    "conv1d": conv1d,
    "conv1d strided": lambda: conv1d(stride=2, padding=2, dilation=2, groups=2),
    "conv1d unbatched": lambda: (conv1d()[0], torch.randn(4, 9)),
    "conv2d": conv2d,
    "conv2d without bias": lambda: conv2d(bias=False),
    "conv2d strided": lambda: conv2d(stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    "conv2d same": lambda: conv2d(padding="same"),
    "conv2d groups": lambda: conv2d(groups=2, padding=1),
    "conv2d circular": lambda: conv2d(padding=1, padding_mode="circular"),
    "conv2d reflect": lambda: conv2d(padding=1, padding_mode="reflect", groups=2),
    "embedding": lambda: (nn.Embedding(10, 6), torch.randint(0, 10, (2, 5))),
    "embedding with padding": lambda: (nn.Embedding(10, 6, padding_idx=2), torch.tensor([[2, 1], [0, 2]])),
    "transformers conv1d": transformers_conv1d,
}


def adapted(layer, **options):
    """The layer with an adapter whose three tensors and bias are drawn at random."""
    choices = {"rank": 3, "alpha": 5.0, "scaling": "lora", "beta": True, "dropout": 0.0, **options}
    dropout, magnitude = choices.pop("dropout"), choices.pop("magnitude", False)
    planner = Planner(tables=tables_of("normal16"), width=Width(), **choices)
    parameters = planner.plan(entries_of(layer, set()), ["weight"], [])
    if magnitude:
        parameters["weight"] = msgspec.structs.replace(parameters["weight"], magnitude=True)
    plan = Recipe(
        lottapack_recipe="1.0",
        architecture=Architecture(family="torch.nn", class_="Sequential", config={"children": []}),
        rng=RecipeRng(id="philox4x32-10", seed="0" * 16, tables={}),
        parameters=parameters,
    )
    attach(layer, plan, dropout=dropout)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return layer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


@pytest.mark.parametrize("magnitude", [True, False], ids=["magnitude", "no magnitude"])
@pytest.mark.parametrize("beta", [True, False], ids=["beta learned", "beta fixed"])
@pytest.mark.parametrize("name", CASES)
def test_layer_computes_what_its_merged_weight_does(name, beta, magnitude):
    plain, given = CASES[name]()
    layer = adapted(copy.deepcopy(plain), beta=beta, magnitude=magnitude)
    assert isinstance(layer, AdapterLayer)
    assert isinstance(layer, type(plain))
    with torch.no_grad():
        plain.weight.copy_(layer.merged_weight())
        if getattr(plain, "bias", None) is not None:
            plain.bias.copy_(layer.bias)
        expected = plain(given)
    assert torch.allclose(layer(given), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(layer.backbone, layer.merged_weight(), atol=0.1)
    assert torch.allclose(layer.weight, layer.merged_weight(), rtol=1e-5, atol=1e-5)
    if magnitude:
        lengths = layer.merged_weight().flatten(1).norm(dim=0 if layer.fan_in_fan_out else 1)
        assert torch.allclose(lengths, layer.magnitude.abs(), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_the_adapter_and_not_the_backbone(name):
    plain, given = CASES[name]()
    layer = adapted(plain, magnitude=True)
    layer(given).square().sum().backward()
    for part in (layer.lora_A, layer.lora_B, layer.beta, layer.magnitude):
        assert part.grad is not None
        assert part.grad.abs().sum() > 0
    assert not layer.backbone.requires_grad
    assert layer.backbone.grad is None
    assert "weight" not in layer.state_dict()


def test_no_gradient_for_the_padding_of_an_embedding():
    layer = adapted(nn.Embedding(10, 6, padding_idx=2))
    layer(torch.tensor([2, 2, 1])).sum().backward()
    assert (layer.lora_A.grad[:, 2] == 0).all()
    assert (layer.lora_A.grad[:, 1] != 0).any()


@pytest.mark.parametrize("name", ["linear", "conv2d groups", "embedding", "transformers conv1d"])
def test_dropout_acts_on_the_low_rank_path_and_only_in_training(name):
    plain, given = CASES[name]()
    layer = adapted(plain, dropout=0.5)
    assert not torch.equal(layer(given), layer(given))
    layer.lora_B.data.zero_()
    assert torch.equal(layer(given), layer(given))
    layer.eval()
    layer.lora_B.data.fill_(1.0)
    assert torch.equal(layer(given), layer(given))


@pytest.mark.parametrize(("rule", "factor"), [("lora", 5 / 3), ("rslora", 5 / math.sqrt(3))])
def test_scaling_is_the_nearest_binary32(rule, factor):
    layer = adapted(nn.Linear(10, 6), scaling=rule)
    assert layer.scaling == torch.tensor(factor, dtype=torch.float64).float().item()
    assert layer.scaling != factor


def test_fixed_beta_is_no_parameter():
    layer = adapted(nn.Linear(10, 6), beta=False)
    assert layer.beta is None
    assert set(layer.state_dict()) - {"lottapack_recipe"} == {"bias", "lora_A", "lora_B"}


def test_extra_repr_adds_to_the_stock_layer():
    text = repr(adapted(nn.Linear(10, 6)))
    assert text == "AdaptedLinear(in_features=10, out_features=6, bias=True, rank=3, scaling=1.66667, beta=learned)"
    assert "beta=1)" in repr(adapted(nn.Embedding(10, 6, padding_idx=2), beta=False))


def by_pickle(model):
    memory = io.BytesIO()
    with warnings.catch_warnings():
        torch.save(model, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, by_pickle], ids=["deepcopy", "pickle"])
def test_copies_are_whole_and_independent(duplicate):
    model = lottapack.scaffold(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), seed=1, rank=2)
    given = torch.randn(2, 8)
    other = duplicate(model)
    assert torch.equal(model(given), other(given))
    other[0].backbone.zero_()
    lottapack.nn.regenerate_(other)
    assert bits(other[0].backbone) == bits(model[0].backbone)
    assert other[0].backbone.data_ptr() != model[0].backbone.data_ptr()
    state = lottapack.scaffold(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), seed=2, rank=2).state_dict()
    with pytest.raises(lottapack.errors.CheckpointError, match="seed 2, this model 1"):
        other.load_state_dict(state)
