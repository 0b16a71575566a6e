"""Frozen parameters of any module come from the seed; packs do not hold them, and they come back."""

import copy

import pytest
import torch
from transformers import GptOssConfig, GptOssForCausalLM, MixtralConfig, MixtralForCausalLM

import lottapack
from lottapack.format.recipe import SeededRecipe, StoredRecipe
from lottapack.nn.attach import recipe_of

TRAIN = ["heads", "norms", "biases", "embeddings"]
FROZEN = {"train": TRAIN, "targets": "mid"}
EXPERTS_FROZEN = {"train": TRAIN, "targets": "q_proj"}
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
EXPERTS = {"vocab_size": 64, "num_local_experts": 3, "head_dim": 16, "intermediate_size": 48, "num_experts_per_tok": 2}


def moe(kind=MixtralForCausalLM, config=MixtralConfig):
    torch.manual_seed(0)
    return kind(config(**SMALL, **EXPERTS))


def seeded(model):
    return {name: role for name, role in recipe_of(model).parameters.items() if isinstance(role, SeededRecipe)}


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])
def test_experts_are_in_no_pack_and_come_back(kind, tmp_path):
    kinds = {"mixtral": (MixtralForCausalLM, MixtralConfig), "gpt_oss": (GptOssForCausalLM, GptOssConfig)}
    model = lottapack.scaffold(moe(*kinds[kind]), seed=7, rank=2, **EXPERTS_FROZEN).eval()
    assert {name.rpartition(".")[2] for name in seeded(model)} >= {"gate_up_proj", "down_proj"}
    path = tmp_path / "moe.lotta.safetensors"
    lottapack.pack(model, path)
    experts = model.model.layers[0].mlp.experts
    assert not any("gate_up_proj" in name and "bias" not in name for name in model.state_dict())
    for loaded in (
        lottapack.load(path),
        lottapack.load(path, merge=True),
        lottapack.distributed.fill_(lottapack.distributed.load_meta(path), path),
    ):
        theirs = loaded.model.layers[0].mlp.experts
        assert torch.equal(theirs.gate_up_proj.view(torch.int32), experts.gate_up_proj.view(torch.int32))
        assert torch.equal(theirs.down_proj.view(torch.int32), experts.down_proj.view(torch.int32))


def test_the_deviation_of_experts_follows_the_axis_of_their_inputs():
    outputs_first = lottapack.scaffold(moe(), seed=7, rank=2, **EXPERTS_FROZEN)
    inputs_first = lottapack.scaffold(moe(GptOssForCausalLM, GptOssConfig), seed=7, rank=2, **EXPERTS_FROZEN)
    for model in (outputs_first, inputs_first):
        roles = {name.rpartition(".")[2]: role for name, role in seeded(model).items() if "experts" in name}
        assert roles["gate_up_proj"].scale == pytest.approx(32**-0.5)
        assert roles["down_proj"].scale == pytest.approx(48**-0.5)


SOURCE = """
import torch
from torch import nn

KINDS = {
    "lstm": lambda: nn.LSTM(8, 8),
    "rnn": lambda: nn.RNN(8, 8),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "conv3d": lambda: nn.Conv3d(4, 8, 3),
    "transposed": lambda: nn.ConvTranspose2d(4, 8, 4, stride=2),
    "bilinear": lambda: nn.Bilinear(4, 5, 8),
    "bag": lambda: nn.EmbeddingBag(9, 8),
}


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner, self.mid, self.head = KINDS[kind](), nn.Linear(8, 8), nn.Linear(8, 2)


class Reservoir(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.RNN(8, 64), nn.Linear(64, 1)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.mid, self.head = nn.Linear(8, 8), nn.Linear(8, 2)
        self.random = nn.Parameter(torch.randn(1, 5, 8))
        self.zeros = nn.Parameter(torch.zeros(1, 5, 8))
        self.vector = nn.Parameter(torch.randn(1, 1, 8))
        self.rows = nn.Parameter(torch.arange(8.0).repeat(5, 1))
        self.sines = nn.Parameter(torch.arange(40.0).view(5, 8).sin(), requires_grad=False)
        self.wide = nn.Parameter(torch.randn(5, 8, dtype=torch.float64))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    (folder / "holds_anything.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "holds_anything"


def net(package, name, **arguments):
    return lottapack.build("python", f"{package}:{name}", **arguments)


HELD = {
    "lstm": ({"weight_ih_l0", "weight_hh_l0"}, 8),
    "attention": ({"in_proj_weight", "weight"}, 8),
    "conv3d": ({"weight"}, 4 * 27),
    "transposed": ({"weight"}, 4 * 4),
    "bilinear": ({"weight"}, 20),
    "bag": ({"weight"}, 8),
}


@pytest.mark.parametrize("kind", HELD)
def test_any_module(kind, package):
    leaves, inputs = HELD[kind]
    model = lottapack.scaffold(net(package, "Net", kind=kind), seed=3, rank=2, **FROZEN)
    roles = {name: role for name, role in seeded(model).items() if name.startswith("inner.")}
    assert {name.rpartition(".")[2] for name in roles} == leaves
    assert [role.scale for role in roles.values()] == pytest.approx([inputs**-0.5] * len(roles))
    assert roles.keys().isdisjoint(model.state_dict())


def test_a_recurrent_layer_computes_with_what_it_holds(package, tmp_path):
    model = lottapack.scaffold(net(package, "Net", kind="lstm"), seed=3, rank=2, **FROZEN)
    path = tmp_path / "rnn.lotta.safetensors"
    lottapack.pack(model, path)
    x = torch.randn(5, 1, 8)
    wanted = model.inner(x)[0]
    models = [
        copy.deepcopy(model),
        lottapack.load(path, allow=package),
        lottapack.load(path, allow=package, merge=True),
        lottapack.distributed.fill_(lottapack.distributed.load_meta(path, allow=package), path, allow=package),
    ]
    for other in models:
        assert torch.equal(other.inner(x)[0], wanted)
        for name, listed in zip(other.inner._flat_weights_names, other.inner._flat_weights, strict=True):
            assert listed is getattr(other.inner, name)
    model.inner(x.requires_grad_())[0].sum().backward()
    assert x.grad.abs().sum() > 0
    held = dict(zip(model.inner._flat_weights_names, model.inner._flat_weights, strict=True))
    assert {name for name, tensor in held.items() if tensor.requires_grad} == {"bias_ih_l0", "bias_hh_l0"}


def test_a_switch_reaches_recurrent_weights(package):
    model = lottapack.scaffold(net(package, "Net", kind="lstm"), seed=3, scaffolds={"b": 4}, rank=2, **FROZEN)
    other = lottapack.scaffold(net(package, "Net", kind="lstm"), seed=4, rank=2, **FROZEN)
    lottapack.switch(model, "b")
    assert torch.equal(model.inner._flat_weights[0], other.inner._flat_weights[0])
    assert not model.inner._flat_weights[0].requires_grad


def test_what_no_random_start_gives_keeps_its_values(package):
    torch.manual_seed(0)
    model = net(package, "Positions")
    before = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    lottapack.scaffold(model, seed=3, rank=2, train=["head"])
    roles = recipe_of(model).parameters
    assert isinstance(roles["random"], SeededRecipe)
    assert not torch.equal(model.random, before["random"])
    for name in ("zeros", "vector", "rows", "sines", "wide"):
        assert roles[name] == StoredRecipe(group="other", trained=False)
        assert torch.equal(getattr(model, name), before[name])


def test_what_is_trained_in_full_stays_so():
    model = lottapack.scaffold(moe(), seed=7, rank=2, train="down_proj")
    assert isinstance(recipe_of(model).parameters["model.layers.0.mlp.experts.down_proj"], StoredRecipe)


def test_a_reservoir_needs_no_adapter(package, tmp_path):
    model = lottapack.scaffold(net(package, "Reservoir"), seed=3, train=["head"], targets=[])
    path = tmp_path / "r.lotta.safetensors"
    lottapack.pack(model, path)
    loaded = lottapack.load(path, allow=package)
    assert set(seeded(loaded)) == {"inner.weight_ih_l0", "inner.weight_hh_l0"}
    assert [name for name, tensor in loaded.named_parameters() if tensor.requires_grad] == ["head.weight", "head.bias"]


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])
def test_a_virtual_mode_takes_experts_and_routers_too(kind, tmp_path):
    kinds = {"mixtral": (MixtralForCausalLM, MixtralConfig), "gpt_oss": (GptOssForCausalLM, GptOssConfig)}
    options = {"seed": 7, "rank": 2, "distribution": "sign1"}
    model = lottapack.scaffold(moe(*kinds[kind]), backbone="virtual", **options).eval()
    other = lottapack.scaffold(moe(*kinds[kind]), **options).eval()
    path = tmp_path / "virtual.lotta.safetensors"
    lottapack.pack(model, path)
    tokens = torch.arange(9).view(1, 9)
    with torch.no_grad():
        wanted = other(tokens).logits
        for found in (model, lottapack.load(path, backbone="virtual"), lottapack.load(path)):
            assert torch.allclose(found(tokens).logits, wanted, rtol=1e-4, atol=1e-4)
    assert any(name.endswith("gate_up_proj_backbone") for name, _ in other.named_buffers())
    assert not any(name.endswith("backbone") for name, _ in model.named_buffers())
