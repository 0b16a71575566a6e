"""Models with a virtual backbone equal the materialised ones."""

import copy

import pytest
import torch
from models import PLAIN, TRANSFORMERS, all_bits, bits, input_for, mlp, output, train
from torch import nn
from torch.utils.checkpoint import checkpoint

import lottapack
from lottapack.errors import LimitError, ScaffoldError, UnsupportedError
from lottapack.nn import recipe_of
from lottapack.nn.generated import generated_of

BUILD = {**PLAIN, **TRANSFORMERS}
MODES = [("sign1", "virtual"), ("normal16", "blocks")]
BIASES = ["biases", "norms", "heads"]  # so that embeddings are generated


def scaffolded(name, backbone="materialised", table="sign1", **options):
    torch.manual_seed(0)
    options = {"seed": 7, "rank": 2, "distribution": table, "scaffolds": {"b": 8}, "backbone": backbone, **options}
    return train(lottapack.scaffold(BUILD[name](), **options))


def virtual_layers(model):
    return [module for module in model.modules() if generated_of(module) is not None]


def generated(model):
    kinds = ("SeededRecipe", "AdaptedRecipe")
    return [n for n, entry in recipe_of(model).parameters.items() if type(entry).__name__ in kinds]


def close(one, other, tolerance=1e-5):
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.detach().abs().max()))


def same_gradients(ours, theirs):
    """Compare within the error of summation. Some are zero otherwise, such as biases of attention keys."""
    scale = max(float(one.abs().max()) for one in theirs.values())
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5 * scale) for name in theirs
    )


def gradients(model, given):
    model.zero_grad()
    found = model(given)
    (found if isinstance(found, torch.Tensor) else found.logits).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("table", "backbone"), MODES, ids=[mode for _, mode in MODES])
@pytest.mark.parametrize("name", BUILD)
def test_a_model_is_the_same_with_and_without_its_backbone(name, table, backbone, tmp_path):
    train = [*BIASES, "rest"] if name == "vit" else BIASES  # its positions are no layer, so that they are in memory
    full, model = scaffolded(name, table=table, train=train), scaffolded(name, backbone, table, train=train)
    weights = {n: full.get_submodule(n.rpartition(".")[0]).weight for n in generated(full)}
    assert {n: bits(model.get_submodule(n.rpartition(".")[0]).weight) for n in weights} == {
        n: bits(weight) for n, weight in weights.items()
    }
    assert len(virtual_layers(model)) >= len(weights) > 0
    assert {n: bits(t) for n, t in model.state_dict().items()} == {n: bits(t) for n, t in full.state_dict().items()}
    assert not {n for n, _ in model.named_buffers(remove_duplicate=False)} & set(weights)
    given = input_for(name)
    assert close(output(model, given), output(full, given))
    assert same_gradients(gradients(model, given), gradients(full, given))
    one, other = lottapack.pack(model, tmp_path / "virtual"), lottapack.pack(full, tmp_path / "full")
    assert one.path.read_bytes() == other.path.read_bytes()
    again = lottapack.load(one.path, backbone=backbone)
    assert len(virtual_layers(again)) == len(virtual_layers(model))
    assert all_bits(again) == all_bits(model)
    assert torch.equal(output(again, given), output(model, given))


def test_a_tied_head_goes_with_its_embedding():
    options = {"targets": ["embed_tokens"], "train": ["norms"]}
    full, model = scaffolded("llama", **options), scaffolded("llama", "virtual", **options)
    assert type(model.lm_head).__name__ == "TiedHead" and generated_of(model.lm_head) is not None
    given = input_for("llama")
    lottapack.nn.regenerate_(model)
    assert close(output(model, given), output(full, given))
    assert same_gradients(gradients(model, given), gradients(full, given))


@pytest.mark.parametrize("name", ["mlp", "cnn", "text"])
def test_switching_goes_to_the_other_scaffold_and_back(name):
    full, model, given = scaffolded(name), scaffolded(name, "virtual"), input_for(name)
    before = output(model, given)
    with lottapack.switch(model, "b"), lottapack.switch(full, "b"):
        assert lottapack.nn.active_scaffold(model) == "b"
        assert close(output(model, given), output(full, given))
        assert not close(output(model, given), before, 1e-2)
    assert torch.equal(output(model, given), before)


def test_a_backward_pass_has_the_backbone_of_its_forward_pass():
    model, given = scaffolded("mlp", "virtual"), input_for("mlp").requires_grad_()
    (due,) = torch.autograd.grad(model(given).sum(), given)
    y = model(given).sum()
    lottapack.switch(model, "b")
    assert torch.equal(torch.autograd.grad(y, given)[0], due)


def test_a_penalty_on_the_gradient_trains_linear_layers_and_is_refused_for_convolutions():
    """A training step through a second derivative: as materialised, or an error without gradients."""

    def penalty(model, given):
        (found,) = torch.autograd.grad(model(given).tanh().square().sum(), given, create_graph=True)
        return found.square().sum()

    torch.manual_seed(2)
    kinds = {
        "linear": (nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8)), torch.randn(3, 12)),
        "convolution": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 4, 3)), torch.randn(2, 3, 8, 8)),
    }
    for kind, (net, given) in kinds.items():
        options = {"seed": 1, "rank": 2, "distribution": "sign1", "targets": "*"}
        plain = lottapack.scaffold(copy.deepcopy(net), **options)
        model = lottapack.scaffold(copy.deepcopy(net), backbone="virtual", **options)
        for one in (plain, model):
            for name, parameter in one.named_parameters():
                if name.endswith("lora_B"):
                    nn.init.constant_(parameter.data, 0.1)
        model.load_state_dict(plain.state_dict())
        given.requires_grad_()
        if kind == "convolution":
            with pytest.raises(RuntimeError, match="no autograd formula"):
                penalty(model, given).backward()
            assert all(parameter.grad is None or bool(parameter.grad.any()) for parameter in model.parameters())
            continue
        for one in (plain, model):
            penalty(one, given).backward()
        for (name, one), other in zip(plain.named_parameters(), model.parameters(), strict=True):
            if one.grad is not None:
                assert bool(one.grad.any()), name
                assert torch.allclose(other.grad, one.grad, rtol=1e-4, atol=1e-6), name


def test_conversions_copies_and_autocast():
    full, model, given = scaffolded("mlp"), scaffolded("mlp", "virtual"), input_for("mlp")
    low, due = copy.deepcopy(model).to(torch.bfloat16), copy.deepcopy(full).to(torch.bfloat16)
    assert [bits(low[i].weight) for i in (0, 2)] == [bits(due[i].weight) for i in (0, 2)]
    assert close(output(low, given.bfloat16()), output(due, given.bfloat16()), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert output(model, given).dtype == output(full, given).dtype
        assert close(output(model, given).float(), output(full, given).float(), 0.05)
        assert output(copy.deepcopy(model).double(), given.double()).dtype == torch.float64
    assert torch.equal(output(copy.deepcopy(model), given), output(model, given))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_compiled_callers_and_gradient_checkpoints(name):
    model, given = scaffolded(name, "virtual"), input_for(name)
    compiled = torch.compile(model, backend="aot_eager")
    assert close(output(compiled, given), output(model, given))
    lottapack.switch(model, "b")
    assert close(output(compiled, given), output(model, given))
    due = gradients(model, given)
    model.zero_grad()
    checkpoint(model, given.requires_grad_(), use_reentrant=False).square().sum().backward()
    assert all(torch.equal(p.grad, due[n]) for n, p in model.named_parameters() if p.grad is not None)


def test_dora_asks_for_the_weight():
    full, model = scaffolded("mlp"), scaffolded("mlp", "virtual")
    for one in (full, model):
        layer = one[0]
        layer.magnitude = nn.Parameter(torch.linspace(0.5, 2, layer.out_features))
    assert close(output(model, input_for("mlp")), output(full, input_for("mlp")))


def test_layers_are_chosen_by_pattern_and_by_size():
    def kinds(backbone, table="sign1"):
        return [
            generated_of(layer) is not None for layer in scaffolded("mlp", backbone, table) if hasattr(layer, "weight")
        ]

    assert kinds({"0": "virtual", "2": "materialised"}) == [True, False, False]
    assert kinds({"2.weight": "blocks"}, "normal16") == [False, True, False]
    assert kinds(lambda _, shape: "virtual" if shape[0] * shape[1] > 100 else "materialised") == [True, False, False]
    mixed = {"0": "sign1", "*": "normal8"}
    assert kinds({"0": "virtual", "2": "blocks"}, mixed) == [True, True, False]


REFUSED = {
    "a table without kernel": (
        {"backbone": "virtual", "table": "normal16"},
        UnsupportedError,
        "0.weight cannot be virtual",
    ),
    "a table without parts": (
        {"backbone": "blocks", "distribution": "hadamard"},
        UnsupportedError,
        "0.weight cannot be generated in blocks: hadamard weights must be in memory",
    ),
    "an unknown mode": ({"backbone": "quick"}, ScaffoldError, "0.weight: unknown .backbone=.quick."),
    "a pattern of nothing": ({"backbone": {"9": "virtual"}}, ScaffoldError, "'9'"),
    "in checkpoints": ({"backbone": "virtual", "persistent": True}, ScaffoldError, "0.weight cannot be in checkpoints"),
    "too little memory": ({"backbone": "virtual", "max_bytes": 200}, LimitError, "`max_bytes=200` allows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said_by_name_before_anything_changes(case):
    options, kind, message = REFUSED[case]
    options = {"distribution": options.pop("table", "sign1"), **options} if "table" in options else options
    model = mlp()
    before = all_bits(model)
    with pytest.raises(kind, match=message.replace("'", ".")):
        lottapack.scaffold(model, **{"seed": 1, "rank": 2, "distribution": "sign1", **options})
    assert all_bits(model) == before
    assert [type(layer) for layer in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


class Bounded(nn.Module):
    """An embedding that shrinks rows of its weight in place."""

    def __init__(self):
        super().__init__()
        self.embed, self.last = nn.Embedding(20, 12, max_norm=1.0), nn.Linear(12, 12)


def test_a_layer_without_such_a_form_is_named():
    model = lottapack.build("python", f"{__name__}:Bounded")
    with pytest.raises(UnsupportedError, match="weight cannot be virtual: weight of a Embedding must be in memory"):
        lottapack.scaffold(
            model, seed=1, rank=2, targets="last", train=[], distribution="sign1", backbone={"embed": "virtual"}
        )


def test_the_block_gets_what_the_limit_leaves():
    model = scaffolded("mlp", "blocks", "normal16", max_bytes=2_000)
    held = sum(t.nbytes for n, t in [*model.named_parameters(), *model.named_buffers()] if "recipe" not in n)
    assert {layer.generated.max_bytes for layer in virtual_layers(model)} == {2_000 - held}
    full = scaffolded("mlp", table="normal16")
    assert close(output(model, input_for("mlp")), output(full, input_for("mlp")))
    with pytest.raises(LimitError, match="one row needs 64 bytes, but `max_bytes` leaves only 4"):
        scaffolded("mlp", "blocks", "normal16", max_bytes=held + 4)


@pytest.mark.parametrize(("table", "backbone"), MODES)
def test_the_text_of_a_layer_says_how_its_weight_is_generated(table, backbone):
    model = scaffolded("mlp", backbone, table)
    assert f", {backbone}, rank=2" in repr(model[0])
    assert backbone not in repr(scaffolded("mlp", table=table))


def test_stock_attributes_are_there():
    model = scaffolded("gpt2", "virtual")
    assert model.transformer.h[0].mlp.c_fc.nf == 64
    layer = scaffolded("mlp", "virtual")[0]
    assert isinstance(layer, nn.Linear)
    assert (layer.in_features, layer.weight.shape, layer.backbone.requires_grad) == (16, (12, 16), False)
    assert "rank=2" in repr(layer)


INPUTS = {
    "integers": ("linear", lambda: torch.ones(3, 16).long(), "input and weight must have the same dtype"),
    "complex numbers": ("linear", lambda: torch.ones(3, 16) * 1j, "input and weight must have the same dtype"),
    "wider numbers": ("linear", lambda: torch.ones(3, 16).double(), "input and weight must have the same dtype"),
    "another width": ("linear", lambda: torch.ones(3, 15), r"the input is \(3, 15\), not \(\.\.\., 16\)"),
    "one number": ("linear", lambda: torch.tensor(1.0), r"the input is \(\), not \(\.\.\., 16\)"),
    "a list": ("linear", lambda: [1.0] * 16, "the input must be a Tensor, but is a list"),
    "integers, convolved": ("conv", lambda: torch.ones(1, 4, 7).long(), "must have the same dtype"),
    "too many channels": ("conv", lambda: torch.ones(1, 6, 7), "expected an input of 4 channels, but got 6"),
    "too few channels": ("conv", lambda: torch.ones(1, 2, 7), "expected an input of 4 channels, but got 2"),
    "fractions as indices": ("embedding", lambda: torch.tensor([1.5]), "indices must be torch.int64 or torch.int32"),
    "bytes as indices": ("embedding", lambda: torch.tensor([1]).byte(), "indices must be torch.int64 or torch.int32"),
    "flags as indices": ("embedding", lambda: torch.tensor([True]), "indices must be torch.int64 or torch.int32"),
}
OF_KIND = {
    "linear": lambda: nn.Linear(16, 12),
    "conv": lambda: nn.Conv1d(4, 12, 3, groups=2),
    "embedding": lambda: nn.Embedding(16, 12),
}


@pytest.mark.parametrize(("table", "backbone"), MODES, ids=[mode for _, mode in MODES])
@pytest.mark.parametrize("options", [{"targets": ["1"]}, {"targets": ["0", "1"], "rank": 0, "beta": "output"}], ids=str)
@pytest.mark.parametrize("case", INPUTS)
def test_an_input_that_the_layer_does_not_take_is_an_error(case, options, table, backbone):
    """As in torch's layers: the operators would use a part of it, or compute in its dtype."""
    kind, wrong, said = INPUTS[case]
    layers = nn.Sequential(OF_KIND[kind](), nn.Linear(12, 12))
    options = {"seed": 1, "rank": 2, "train": [], "distribution": table, **options}
    model = lottapack.scaffold(copy.deepcopy(layers), backbone=backbone, **options)
    with pytest.raises((RuntimeError, TypeError), match=rf"^0\.weight: .*{said}"):
        model[0](wrong())
    with pytest.raises((RuntimeError, TypeError, AttributeError)):
        lottapack.scaffold(layers, **options)[0](wrong())


@pytest.mark.parametrize("backbone", ["materialised", "blocks"])
@pytest.mark.parametrize("kind", OF_KIND)
def test_tools_that_read_the_code_of_layers_are_refused(kind, backbone):
    options = {"targets": ["0"], "train": [], "backbone": backbone}
    model = lottapack.scaffold(nn.Sequential(OF_KIND[kind]()), seed=1, rank=2, **options)
    with pytest.raises(UnsupportedError, match=r"^0(\.weight)?: torch\.fx cannot trace"):
        torch.fx.symbolic_trace(model)
    with pytest.raises(UnsupportedError, match=r"^0: torch\.jit\.script cannot compile a layer with an adapter"):
        torch.jit.script(model)


def test_a_reservoir_is_not_compiled_by_torch_jit_script():
    """Its layers are torch's own, but the model compares scaffolds with other processes that train it."""
    model = lottapack.scaffold(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), seed=1, targets=[], train=["1"])
    with pytest.raises(UnsupportedError, match=r"^torch\.jit\.script cannot compile a model that has a scaffold"):
        torch.jit.script(model)
