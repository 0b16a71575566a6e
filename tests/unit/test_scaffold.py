"""scaffold(): roles, initial values, refusals."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from models import all_bits, bits, cnn, distilbert, gpt2, mlp, output, text, tied_llama, train
from torch import nn

import lottapack
from lottapack import rng
from lottapack.errors import ArchitectureError, ScaffoldError
from lottapack.nn import AdapterLayer, recipe_of


def roles(model):
    """Role, or group and whether it trains, by name."""
    found = {}
    for name, entry in recipe_of(model).parameters.items():
        role = type(entry).__name__.removesuffix("Recipe").lower()
        found[name] = f"{entry.group} {'trained' if entry.trained else 'kept'}" if role == "stored" else role
    return found


def test_default_roles_of_a_convolutional_network():
    assert roles(lottapack.scaffold(cnn(), seed=1, rank=2)) == {
        "0.weight": "adapted",
        "0.bias": "bias trained",
        "1.weight": "norm trained",
        "1.bias": "norm trained",
        "1.running_mean": "buffer kept",
        "1.running_var": "buffer kept",
        "1.num_batches_tracked": "buffer kept",
        "3.weight": "adapted",
        "3.bias": "bias trained",
        "6.weight": "head trained",
        "6.bias": "bias trained",
    }


def test_default_roles_of_transformers():
    llama = roles(lottapack.scaffold(tied_llama(), seed=1, rank=2))
    assert llama["model.embed_tokens.weight"] == "embedding trained"
    assert llama["lm_head.weight"] == "tied"
    assert llama["model.norm.weight"] == "norm trained"
    assert {role for name, role in llama.items() if "proj" in name} == {"adapted"}
    found = roles(lottapack.scaffold(gpt2(), seed=1, rank=2))
    assert found["transformer.h.0.attn.c_attn.weight"] == "adapted"
    assert found["transformer.wpe.weight"] == "embedding trained"
    found = roles(lottapack.scaffold(distilbert(), seed=1, rank=2))
    assert found["pre_classifier.weight"] == found["classifier.weight"] == "head trained"
    assert found["distilbert.transformer.layer.0.attention.q_lin.weight"] == "adapted"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"targets": "0"}, "adapted|bias trained|seeded|bias trained|head trained|bias trained"),
        ({"targets": ["4"], "train": ()}, "seeded|bias kept|seeded|bias kept|adapted|bias kept"),
        ({"train": ()}, "adapted|bias kept|adapted|bias kept|adapted|bias kept"),
        ({"train": ["2", "biases"]}, "adapted|bias trained|other trained|bias trained|adapted|bias trained"),
        ({"train": ["2.bias", "0.weight"]}, "other trained|bias kept|adapted|bias trained|adapted|bias kept"),
        ({"targets": "[02]"}, "adapted|bias trained|adapted|bias trained|head trained|bias trained"),
    ],
)
def test_targets_and_train_take_names_patterns_and_words(options, expected):
    found = roles(lottapack.scaffold(mlp(), seed=1, rank=2, **options))
    assert "|".join(found[name] for name in mlp().state_dict()) == expected


def test_what_is_frozen_needs_no_gradient():
    model = lottapack.scaffold(mlp(), seed=1, rank=2, train=["2.bias"])
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapters = {f"{layer}.{part}" for layer in "024" for part in ("lora_A", "lora_B", "beta")}
    assert learned == adapters | {"2.bias"}


def test_rank_by_pattern():
    model = lottapack.scaffold(mlp(), seed=1, rank={"0": 5, "*": 3})
    assert (model[0].adapter_rank, model[2].adapter_rank) == (5, 3)
    assert (model[0].scaling, model[2].scaling) == (1.0, 1.0)
    assert lottapack.scaffold(mlp(), seed=1, rank=4, alpha=2)[0].scaling == 0.5


def test_default_scale_is_one_over_the_root_of_d_in():
    model = lottapack.scaffold(nn.Sequential(nn.Linear(300, 400), nn.Linear(400, 2)), seed=1)
    entry = recipe_of(model).parameters["0.weight"]
    assert entry.scale == float(np.float32(1 / math.sqrt(300)))
    assert abs(model[0].weight.std().item() * math.sqrt(300) - 1) < 0.01
    convolution = recipe_of(lottapack.scaffold(cnn(), seed=1, rank=2)).parameters
    assert convolution["3.weight"].scale == float(np.float32(1 / math.sqrt(4 * 9)))
    embedding = recipe_of(lottapack.scaffold(text(), seed=1, rank=2, targets="1", train=["heads"])).parameters
    assert embedding["0.weight"].scale == float(np.float32(1 / math.sqrt(12)))


@pytest.mark.parametrize("table", ["uniform16", "sign1", "normal8", rng.custom("laplace", [-3.0, -0.5, 0.5, 3.0])])
def test_every_distribution_has_that_deviation(table):
    model = lottapack.scaffold(nn.Sequential(nn.Linear(300, 400), nn.Linear(400, 2)), seed=1, distribution=table)
    assert abs(model[0].weight.std().item() * math.sqrt(300) - 1) < 0.01
    scaled = lottapack.scaffold(mlp(), seed=1, rank=2, distribution=table, scale=0.5)
    assert recipe_of(scaled).parameters["0.weight"].scale == 0.5
    values = (table if isinstance(table, rng.Table) else rng.builtin(table)).values * np.float32(0.5)
    assert set(scaled[0].weight.flatten().tolist()) <= set(values.tolist())


def test_the_seed_is_everything():
    torch.manual_seed(1)
    one = lottapack.scaffold(mlp(), seed=2**64 - 1, rank=2)
    torch.manual_seed(2)
    other, third = lottapack.scaffold(mlp(), seed=2**64 - 1, rank=2), lottapack.scaffold(mlp(), seed=7, rank=2)
    assert all_bits(one) == all_bits(other)
    assert bits(one[0].weight) != bits(third[0].weight)
    assert bits(one[0].lora_A) != bits(third[0].lora_A)
    assert bits(one[4].weight) != bits(third[4].weight)


def test_initial_values_are_those_of_the_paper():
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    source = rng.Source(1, "0.weight", rng.builtin("normal16"), 0.25, "float32")
    assert bits(model[0].weight) == bits(rng.fill_(torch.empty(12, 16), source))
    assert model[0].beta.tolist() == [1.0]
    assert not model[0].lora_B.any()
    assert 0.2 < model[0].lora_A.abs().max() <= 0.25
    assert not model[0].bias.any()
    assert not model[4].bias.any()
    assert not lottapack.scaffold(text(), seed=1, rank=2)[0].weight[3].any()


def test_a_checkpoint_is_small_unless_asked():
    def generated(model):
        return {"0.backbone", "2.backbone"} & model.state_dict().keys()

    assert generated(lottapack.scaffold(mlp(), seed=1, rank=2)) == set()
    persistent = lottapack.scaffold(mlp(), seed=1, rank=2, persistent=True)
    assert generated(persistent) == {"0.backbone", "2.backbone"}
    assert "lottapack_recipe" in persistent.state_dict()


def test_the_recipe_is_as_the_spec_says():
    model = lottapack.scaffold(mlp(), seed=42, rank=2)
    plan = recipe_of(model)
    assert model.lottapack_recipe.dtype == torch.uint8
    assert (plan.lottapack_recipe, plan.seed, plan.rng.seed) == ("1.0", 42, "000000000000002a")
    assert plan.parameters.keys() == mlp().state_dict().keys()
    assert plan.to_bytes() == model.lottapack_recipe.numpy().tobytes()


def test_ties_survive():
    model = lottapack.scaffold(tied_llama(), seed=1, rank=2)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.requires_grad
    frozen = lottapack.scaffold(tied_llama(), seed=1, rank=2, train=["norms"])
    assert frozen.lm_head.weight.data_ptr() == frozen.model.embed_tokens.weight.data_ptr()
    assert not frozen.lm_head.weight.requires_grad
    assert roles(frozen)["model.embed_tokens.weight"] == "seeded"
    twice = lottapack.scaffold(text(), seed=1, rank=2)
    assert twice[1] is twice[3]
    assert isinstance(twice[3], AdapterLayer)


@pytest.mark.parametrize("words", [["heads"], ["lm_head"], ["embeddings"], ["model.embed_tokens"]])
def test_a_tied_weight_trains_if_any_of_its_names_is_asked_for(words):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=2, train=words)
    assert roles(model)["model.embed_tokens.weight"] == "embedding trained"
    assert model.lm_head.weight.requires_grad


def test_half_precision_models_are_drawn_in_their_dtype():
    model = lottapack.scaffold(mlp().bfloat16(), seed=1, rank=2)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    assert recipe_of(model).parameters["0.weight"].dtype == "bfloat16"


def with_bias(dtype):
    model = mlp()
    model[0].bias = nn.Parameter(torch.zeros(12).to(dtype))
    return model


@pytest.mark.parametrize("rank", [3, {"0": 4, "*": 3}])
def test_a_layer_narrower_than_the_rank_of_all_is_trained_in_full(rank):
    """A gate with one output, whose adapter would be larger than its weight."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 1), nn.Linear(1, 16), nn.Linear(16, 4))
    lottapack.scaffold(model, seed=1, rank=rank)
    assert roles(model) == {
        "0.weight": "adapted",
        "0.bias": "bias trained",
        "1.weight": "other trained",
        "1.bias": "bias trained",
        "2.weight": "other trained",
        "2.bias": "bias trained",
        "3.weight": "head trained",
        "3.bias": "bias trained",
    }
    assert model[1].weight.requires_grad


def test_a_narrow_layer_that_is_named_takes_the_rank_that_it_can():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 2), nn.Linear(2, 4))
    lottapack.scaffold(model, seed=1, rank=3, targets=["0", "1"])
    assert {name: recipe_of(model).parameters[f"{name}.weight"].rank for name in "01"} == {"0": 3, "1": 2}


@pytest.mark.parametrize(("options", "role"), [({}, "other trained"), ({"train": ["heads"]}, "seeded")])
def test_layers_that_share_a_weight_are_no_reason_to_refuse_the_others(options, role):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    model[1].weight = model[0].weight
    lottapack.scaffold(model, seed=1, rank=2, **options)
    found = roles(model)
    assert (found["0.weight"], found["1.weight"], found["2.weight"]) == (role, "tied", "adapted")
    assert model[1].weight is model[0].weight


def tied_linears():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (mlp, {"targets": "head"}, r"targets: no layer is called 'head'"),
        (
            lambda: nn.Sequential(OrderedDict(query=nn.Linear(4, 4), head=nn.Linear(4, 4))),
            {"targets": "qeury"},
            "mean query",
        ),
        (mlp, {"train": "normz"}, r"train: no layer is called 'normz'"),
        (mlp, {"rank": 13}, r"no layer would get an adapter: every layer left for one has fewer .* than the rank, 13"),
        (mlp, {"rank": {"0": 4, "2": 9}}, r"^rank=9 for 2: this layer supports ranks from 1 to 8"),
        (mlp, {"rank": {"0": 4}, "targets": ["0", "2"]}, r"^2 does not match any pattern in rank"),
        (mlp, {"rank": {"0": 4, "2": 4, "nine": 1}}, r"rank: no layer is called 'nine'"),
        (mlp, {"rank": 0}, r"^rank=0 must be integers of at least 1"),
        (mlp, {"rank": 0, "beta": "input", "alpha": 2.0}, r"^alpha has no effect with rank=0"),
        (mlp, {"rank": {"*": 0}, "beta": "output", "scaling": "rslora"}, r"^scaling has no effect with rank=0"),
        (mlp, {"rank": 0, "beta": "input", "dropout": 0.1}, r"^dropout has no effect with rank=0"),
        (mlp, {"rank": True}, r"^rank=True must be integers of at least 1"),
        (mlp, {"rank": {"0": 2, "*": 2.5}}, r"^rank=.*2\.5.* must be integers of at least 1"),
        (mlp, {"targets": "0", "train": "0"}, r"^0\.weight is in both `targets` and `train`"),
        (cnn, {"targets": "1"}, r"^targets='1': 1\.weight, a parameter of a BatchNorm2d, cannot have an adapter"),
        (tied_linears, {"targets": "1"}, r"^1\.weight cannot have its own adapter: it is tied to 0\.weight"),
        (mlp, {"targets": ["0", "2.bias"]}, r"targets='2\.bias': 2\.bias, a parameter of a Linear, cannot have"),
        (lambda: with_bias(torch.complex64), {}, r"^0\.bias is torch\.complex64, which the format does not support"),
        (lambda: with_bias(torch.float8_e4m3fn), {}, r"^0\.bias is torch\.float8_e4m3fn"),
        (mlp, {"targets": ["0", "nine"], "train": "normz"}, r"2 layers .*\n  targets: .*'nine'\n  train: .*'normz'"),
        (tied_linears, {"targets": "0"}, r"^0\.weight cannot have an adapter: another layer shares"),
        (lambda: nn.Sequential(nn.Linear(4, 4)), {"rank": 2}, "no layer would get an adapter"),
        (lambda: mlp().double(), {}, r"3 layers .*\n  0\.weight is float64.*\n  2\.weight is float64"),
        (lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8).double()), {}, r"^1\.weight is float64"),
        (lambda: nn.Sequential(OrderedDict({"a/b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})), {}, "'a/b.* a slash"),
        (mlp, {"seed": -1}, "seed=-1"),
        (mlp, {"seed": 2**64}, "seed=18446744073709551616"),
        (mlp, {"seed": "1"}, "seed='1'"),
        (mlp, {"alpha": 0}, "alpha=0"),
        (mlp, {"alpha": math.nan}, "alpha=nan"),
        (mlp, {"alpha": 1e300}, r"2 layers .*\n  0\.weight: with alpha=1e\+300"),
        (mlp, {"scaling": "loro"}, "scaling='loro'"),
        (mlp, {"scale": -0.5}, "scale=-0.5"),
        (mlp, {"scale": 1e38}, r"2 layers .*\n  0\.weight: scale 9\.9+"),
        (mlp, {"beta": 0.5}, "beta=0.5"),
        (mlp, {"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_impossible_requests_name_the_layer_and_change_nothing(build, options, message):
    model = build()
    before = repr(model)
    with pytest.raises(ScaffoldError, match=message):
        lottapack.scaffold(model, **{"seed": 1, "rank": 2, **options})
    assert repr(model) == before
    assert not lottapack.nn.is_scaffolded(model)


class WithoutPart(nn.Module):
    """As where a frozen network for a loss must not be in the checkpoints."""

    def __init__(self):
        super().__init__()
        self.body, self.judge = nn.Linear(8, 8), nn.Linear(8, 8)

    def state_dict(self, *args, **options):
        state = super().state_dict(*args, **options)
        return {name: tensor for name, tensor in state.items() if not name.startswith("judge.")}


def renamed(module, state, prefix, _):
    state[f"{prefix}old"] = state.pop(f"{prefix}bias")


def below(module, state, prefix, _):
    for name in list(state):
        state[f"inner.{name}"] = state.pop(name)


def untied(module, state, prefix, _):
    del state[f"{prefix}2.weight"]


class Hooked(nn.Module):
    def __init__(self, hook, tied=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        if tied:
            self.body[2].weight = self.body[0].weight
        (self if hook == "below" else self.body if tied else self.body[0])._register_state_dict_hook(globals()[hook])

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (lambda: lottapack.build("python", "test_scaffold:WithoutPart"), r"judge\.weight, judge\.bias"),
        (lambda: lottapack.build("python", "test_scaffold:Hooked", hook="renamed"), r"body\.0\.bias"),
        (lambda: lottapack.build("python", "test_scaffold:Hooked", hook="below"), r"body\.0\.weight, .* and 1 more"),
        (lambda: lottapack.build("python", "test_scaffold:Hooked", hook="untied", tied=True), r"body\.2\.weight"),
    ],
    ids=["left out", "renamed", "under a prefix", "a tied one left out"],
)
def test_a_state_dict_that_lacks_tensors_is_refused(made, names):
    """They came back without values, and a forward pass computed with memory that nothing had written."""
    model = made()
    with pytest.raises(ArchitectureError, match=rf"state_dict\(\) does not contain {names}, which the model holds"):
        lottapack.scaffold(model, seed=1, rank=2)
    assert not lottapack.nn.is_scaffolded(model)


def test_unknown_distributions_are_refused():
    with pytest.raises(lottapack.errors.UnsupportedError, match="unknown distribution 'normal'"):
        lottapack.scaffold(mlp(), seed=1, distribution="normal")


def test_scaffolding_twice_is_refused():
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    for whole in (model, nn.Sequential(model)):
        with pytest.raises(ScaffoldError, match="scaffolded already"):
            lottapack.scaffold(whole, seed=1, rank=2)


def test_checkpoints_resume_but_not_those_of_another_scaffold():
    model = train(lottapack.scaffold(mlp(), seed=1, rank=2))
    resumed = lottapack.scaffold(mlp(), seed=1, rank=2)
    resumed.load_state_dict(model.state_dict())
    assert all_bits(resumed) == all_bits(model)
    with pytest.raises(lottapack.errors.CheckpointError, match="seed 1, this model 2"):
        lottapack.scaffold(mlp(), seed=2, rank=2).load_state_dict(model.state_dict())
    with pytest.raises(lottapack.errors.CheckpointError, match="another plan of roles"):
        lottapack.scaffold(mlp(), seed=1, rank=2, alpha=3).load_state_dict(model.state_dict())


@pytest.mark.parametrize("options", [{}, {"train": ["norms"]}], ids=["trained ties", "frozen ties"])
def test_regenerating_brings_back_all_that_follows_from_the_seed(options):
    model = train(lottapack.scaffold(tied_llama(), seed=1, rank=2, **options))
    expected, state = all_bits(model), model.state_dict()
    state = {name: tensor.clone() for name, tensor in state.items()}
    model.to_empty(device="cpu")
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.view(torch.uint8).fill_(255)
    assert lottapack.nn.regenerate_(model) is model
    model.load_state_dict(state)
    assert all_bits(model) == expected
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_regenerating_names_a_buffer_that_nothing_computes_again():
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    model[0].register_buffer("mask", torch.ones(3), persistent=False)
    with pytest.raises(lottapack.errors.ArchitectureError, match=r"0\.mask is in no checkpoint"):
        lottapack.nn.regenerate_(model)


def test_a_model_without_memory_is_not_drawn_but_has_a_way_that_leaves_nothing_uninitialised():
    draw = lottapack.init_backbone_
    with torch.device("meta"):
        model = tied_llama()
    with pytest.raises(lottapack.errors.ScaffoldError, match="is on the meta device") as fault:
        draw(model, seed=1)
    assert "init_weights" in fault.value.hint
    model.to_empty(device="cpu")
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.view(torch.uint8).fill_(255)
    model.init_weights()
    built = draw(tied_llama(), seed=1)
    assert all_bits(draw(model, seed=1)) == all_bits(built)


@pytest.mark.parametrize("prefix", ["module", "_orig_mod"])
def test_wrapped_models_keep_their_recipe(prefix):
    model = lottapack.scaffold(mlp(), seed=9, rank=2)
    wrapped = nn.ModuleDict({prefix: model})
    assert lottapack.nn.is_scaffolded(wrapped)
    assert recipe_of(wrapped).seed == 9
    with torch.no_grad():
        model[0].backbone.zero_()
    lottapack.nn.regenerate_(wrapped)
    assert model[0].backbone.any()


def test_outputs_start_as_the_backbone_alone():
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    given = torch.randn(3, 16)
    plain = mlp()
    plain.load_state_dict({name: getattr(model[int(name[0])], name[2:]) for name in plain.state_dict()})
    assert torch.equal(output(model, given), output(plain, given))


def test_models_without_a_recipe_say_so():
    assert not lottapack.nn.is_scaffolded(mlp())
    with pytest.raises(lottapack.errors.CheckpointError, match="does not contain a lottapack recipe"):
        recipe_of(mlp())


@pytest.mark.parametrize("frozen", [False, True])
def test_what_trains_is_what_the_recipe_says_whatever_was_frozen_before(frozen, tmp_path):
    plain = cnn().requires_grad_(not frozen)
    plain[1].bias.requires_grad_(frozen)
    model = lottapack.scaffold(plain, seed=1, rank=2, train=["heads", "3.bias"])

    def says(one):
        stored = {n: e.trained for n, e in recipe_of(one).parameters.items() if hasattr(e, "trained")}
        return {name: parameter.requires_grad for name, parameter in one.named_parameters()}, {
            name: stored.get(name, True) for name, _ in one.named_parameters()
        }

    now, due = says(model)
    assert now == due and set(now.values()) == {True, False}
    lottapack.pack(model.requires_grad_(False), tmp_path / "m.lotta.safetensors")
    now, due = says(lottapack.load(tmp_path / "m.lotta.safetensors"))
    assert now == due and set(now.values()) == {True, False}
