"""Architectures as data, and empty models from them."""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models import TRANSFORMERS, cnn, gpt2, mlp
from torch import nn

import lottapack
from lottapack import arch
from lottapack.arch import skeleton, transformers_models, versions
from lottapack.arch.budget import Budget
from lottapack.arch.skeleton import computed_buffers, shapes_of
from lottapack.arch.trust import allowing
from lottapack.errors import ArchitectureError, LimitError, UnsupportedError
from lottapack.format import canonical
from lottapack.format.descriptor import Architecture
from lottapack.format.rules import architecture_problems
from lottapack.format.torch_nn_classes import ARGUMENTS
from lottapack.strict_json.text import JsonText

REQUIRED = {
    "in_features": 6,
    "out_features": 4,
    "in1_features": 3,
    "in2_features": 5,
    "in_channels": 4,
    "out_channels": 6,
    "kernel_size": 3,
    "num_features": 5,
    "num_embeddings": 7,
    "embedding_dim": 3,
    "num_groups": 2,
    "num_channels": 4,
    "normalized_shape": (3, 2),
    "output_size": 3,
    "upscale_factor": 2,
    "size": 5,
    "dim": 1,
    "unflattened_size": (2, 3),
    "padding": (1, 0, 2, 1),
}
"""Something for each argument without a default."""

CHOSEN = {
    "Conv1d": {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": False, "padding_mode": "reflect"},
    "Conv2d": {"kernel_size": (3, 5), "padding": "same", "padding_mode": "circular"},
    "Conv3d": {"stride": (1, 2, 1), "groups": 2},
    "ConvTranspose1d": {"stride": 3, "output_padding": 1, "dilation": 2},
    "ConvTranspose2d": {"stride": (2, 3), "output_padding": (1, 0), "bias": False},
    "BatchNorm2d": {"momentum": None, "eps": 1e-3},
    "BatchNorm3d": {"track_running_stats": False},
    "BatchNorm1d": {"affine": False},
    "InstanceNorm2d": {"affine": True, "track_running_stats": True},
    "LayerNorm": {"bias": False},
    "Linear": {"bias": False},
    "Embedding": {"padding_idx": 2},
    "AdaptiveAvgPool2d": {"output_size": (2, 3)},
    "AvgPool2d": {"divisor_override": 2, "ceil_mode": True},
    "GELU": {"approximate": "tanh"},
    "Upsample": {"size": None, "scale_factor": 2.0, "mode": "bilinear", "align_corners": True},
    "PReLU": {"num_parameters": 4, "init": 0.125},
    "Softmax": {"dim": -1},
    "LocalResponseNorm": {"k": 2.0},
    "RMSNorm": {"eps": None},
}
"""Arguments other than the defaults."""


def build(name):
    cls = getattr(nn, name)
    known = cls.__init__.__code__.co_varnames if "__init__" in vars(cls) or ARGUMENTS[name] else ()
    defaults = len(cls.__init__.__defaults__ or ())
    needed = known[1 : cls.__init__.__code__.co_argcount - defaults] if known else ()
    return cls(**{argument: REQUIRED[argument] for argument in needed if argument in REQUIRED} | CHOSEN.get(name, {}))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_class_comes_back_with_its_arguments(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(), build(name))
    described = arch.describe(model)
    rebuilt = arch.build(described)
    assert arch.describe(rebuilt) == described
    assert repr(rebuilt) == repr(model)
    assert shapes_of(rebuilt) == shapes_of(model)
    given = described.config["children"][1]["config"]
    assert given.keys() == set(ARGUMENTS[name])
    for argument, chosen in CHOSEN.get(name, {}).items():
        expected = (chosen,) if isinstance(given[argument], list) and isinstance(chosen, int) else chosen
        assert given[argument] == (list(expected) if isinstance(expected, tuple) else expected)


class Own(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.MultiheadAttention(4, 2)),
            "0: cannot describe torch.nn.*MultiheadAttention",
        ),
        (nn.Sequential(nn.Sequential(Own())), r"0\.0: .*cannot describe .*Own as data"),
        (nn.ModuleList([nn.Linear(2, 2)]), "cannot describe .*ModuleList as data"),
        (Own(), "Own does not belong to a known architecture family"),
        (type("Stack", (nn.Sequential,), {"__module__": "mine"})(), r"mine\.Stack does not belong to"),
        (nn.Sequential(nn.Embedding(4, 2, max_norm=1.0)), "0: an embedding with max_norm"),
        (nn.Sequential(nn.AdaptiveAvgPool2d((None, 2))), "0: the argument output_size"),
        (nn.Sequential(nn.Hardtanh(float("-inf"), 0.0)), "as JSON"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), "ParametrizedLinear"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_no_data_is_refused_by_name(model, message):
    with pytest.raises(ArchitectureError, match=message):
        arch.describe(model)


def test_changed_models_are_refused():
    model = gpt2()
    model.resize_token_embeddings(40)
    model.config.vocab_size = 32
    with pytest.raises(ArchitectureError, match=r"different tensors: lm_head\.weight, transformer\.wte\.weight"):
        arch.describe(model)
    model = mlp()
    model.register_buffer("extra", torch.zeros(2))
    with pytest.raises(ArchitectureError, match="different tensors: extra"):
        arch.describe(model)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_come_back_empty_without_drawing(name):
    model = TRANSFORMERS[name]()
    described = arch.describe(model)
    state = torch.get_rng_state()
    rebuilt = arch.build(described)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(rebuilt) is type(model)
    assert shapes_of(rebuilt) == shapes_of(model)
    assert {key: value.dtype for key, value in rebuilt.state_dict().items()} == {
        key: value.dtype for key, value in model.state_dict().items()
    }
    real = {key for key, value in [*rebuilt.named_parameters(), *rebuilt.named_buffers()] if not value.is_meta}
    computed = dict(computed_buffers(model))
    assert real == computed.keys() == dict(computed_buffers(rebuilt)).keys()
    for key, buffer in computed_buffers(rebuilt):
        assert torch.equal(buffer, computed[key])
    assert arch.describe(rebuilt) == described


def test_a_missing_library_is_named(monkeypatch):
    described = arch.describe(gpt2())
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'lottapack\[transformers\]'"):
        arch.build(described)


@pytest.mark.parametrize(
    ("family", "class_name", "config", "message"),
    [
        ("keras", "vit", {}, "unknown architecture family 'keras'"),
        ("transformers", "NoSuchModel", {}, "does not have the model class 'NoSuchModel'"),
        ("transformers", "PreTrainedModel", {}, "does not have the model class"),
        ("transformers", "AutoModel", {}, "does not have the model class"),
        ("transformers", "GPT2Config", {}, "does not have the model class"),
        (
            "transformers",
            "GPT2LMHeadModel",
            {"model_type": "llama"},
            "has model_type 'gpt2', but the pack says 'llama'",
        ),
        ("transformers", "GPT2LMHeadModel", {"n_embd": "many"}, "from its configuration"),
        ("torch.nn", "Linear", {"in_features": -1, "out_features": 2, "bias": True}, "cannot build Linear"),
        ("torch.nn", "Linear", {"in_features": 2**62, "out_features": 2**62, "bias": True}, "cannot build Linear"),
    ],
)
def test_what_cannot_be_built_is_one_kind_of_error(family, class_name, config, message):
    with pytest.raises((ArchitectureError, LimitError, UnsupportedError), match=message):
        arch.build(Architecture(family=family, class_=class_name, config=config))


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code", "quantization_config", "_attn_implementation"])
def test_dangerous_keys_are_refused_at_any_depth(key):
    for config in ({key: 1}, {"vision_config": {"inner": [{key: 1}]}}):
        problems = architecture_problems("transformers", "GPT2LMHeadModel", JsonText(canonical.dumps(config)))
        assert [(p.kind, p.where.rpartition(".")[2]) for p in problems] == [("architecture", key)]


@pytest.mark.parametrize("name", ["_Private", "os.system", "é", "", "a b"])
def test_class_names_are_plain_identifiers(name):
    assert architecture_problems("transformers", name, JsonText(b"{}"))[0].where == "architecture.class"


def test_buffers_that_need_weights_cannot_be_computed():
    def construct():
        module = nn.Linear(2, 2)
        module.register_buffer("mean", module.weight.mean(), persistent=False)
        return module

    with pytest.raises(ArchitectureError, match="cannot compute mean without weights, and no checkpoint holds it"):
        skeleton.build_skeleton(construct, "this model", Budget())


def test_configurations_that_are_no_json_are_refused():
    with pytest.raises(ArchitectureError, match="which is not JSON"):
        transformers_models.plain_config({"a": [object()]})
    model = gpt2()
    model.config.quantization_config = {"bits": 4}
    with pytest.raises(ArchitectureError, match="quantised by another tool"):
        arch.describe(model)
    renamed = type("GPT2LMHeadModel", (type(model),), {})(gpt2().config)
    with pytest.raises(ArchitectureError, match="is not the class that transformers exports as"):
        arch.describe(renamed)


def test_families_are_found_without_importing_libraries(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace())
    assert arch.family_of(cnn()).name == "torch.nn"
    assert lottapack.scaffold(mlp(), seed=1, rank=2)


def test_floats_that_json_lacks_come_back():
    """Mamba2's default has one, and the library itself writes them."""
    from transformers import Mamba2Config, Mamba2Model

    limits = (float("-inf"), float("inf"))
    config = Mamba2Config(
        hidden_size=8, num_hidden_layers=1, num_heads=2, head_dim=8, state_size=4, n_groups=1, time_step_limit=limits
    )
    described = arch.describe(Mamba2Model(config))
    assert described.config["time_step_limit"] == [{"__float__": "-Infinity"}, {"__float__": "Infinity"}]
    assert transformers_models.plain_config(described.config) == described.config
    made = arch.build(described)
    assert list(made.config.time_step_limit) == list(limits)
    assert arch.describe(made) == described
    not_a_number = transformers_models.plain_config({"a": [float("nan")]})
    assert not_a_number == {"a": [{"__float__": "NaN"}]}


@pytest.mark.parametrize(
    "config",
    [{"__float__": "NaN"}, {"a": {"__float__": "1.0"}}, {"a": {"__float__": 1}}, {"a": {"__float__": "NaN", "b": 1}}],
)
def test_nothing_else_may_be_written_as_a_float(config):
    (problem,) = architecture_problems("transformers", "GPT2Model", JsonText(canonical.dumps(config)))
    assert problem.where.endswith(".__float__")


def test_a_text_that_looks_like_a_float_hides_no_key():
    text = '{"__float__":"NaN"}'
    config = {"a": [text, f":{text}", {text: 1}], "b": {"__float__": "NaN"}, "c": {"_d": ":{"}}
    (problem,) = architecture_problems("transformers", "GPT2Model", JsonText(canonical.dumps(config)))
    assert problem.where == "architecture.config.c._d"


def test_the_innermost_model_fills_the_buffers_of_a_module():
    """Gemma3n's outer class lacks sizes that its text model needs."""
    from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

    config = Gemma3nTextConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size_per_layer_input=64,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=0,
        laurel_rank=4,
        altup_num_inputs=2,
        layer_types=["sliding_attention", "full_attention"],
        activation_sparsity_pattern=[0.0, 0.0],
    )
    model = Gemma3nForCausalLM(config)
    made = arch.build(arch.describe(model))
    skeleton.require_same_computed(model, made, "Gemma3n")


def test_kernels_that_the_library_notes_in_parts_are_left_out():
    from transformers import LightGlueConfig, LightGlueForKeypointMatching

    config = LightGlueConfig(num_hidden_layers=1, descriptor_dim=16, num_attention_heads=2)
    described = arch.describe(LightGlueForKeypointMatching(config))
    assert "attn_implementation" not in described.config["keypoint_detector_config"]


def test_a_config_that_grows_whenever_it_is_read_names_one_scaffold(tmp_path):
    from transformers import LevitConfig, LevitForImageClassificationWithTeacher

    config = LevitConfig(hidden_sizes=[16, 32, 48], depths=[1, 1, 1], num_attention_heads=[1, 1, 1], key_dim=[8, 8, 8])
    model = lottapack.scaffold(LevitForImageClassificationWithTeacher(config), seed=7, rank=2)
    path = tmp_path / "levit.lotta.safetensors"
    lottapack.pack(model, path)
    loaded = lottapack.load(path)
    state = model.state_dict()
    loaded.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


class Caches(nn.Module):
    """Keeps a tensor that depends on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.kept = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = torch.arange(len(x))
        return self.linear(x)


def test_what_a_forward_pass_keeps_is_said_to_be_a_change():
    model = lottapack.build("python", f"{__name__}:Caches")
    arch.describe(model)
    model(torch.zeros(4, 3))
    with pytest.raises(ArchitectureError, match="kept, which no checkpoint holds, has changed since"):
        arch.describe(model)


def test_a_torch_that_is_too_old_builds_no_pack(monkeypatch):
    described = arch.describe(mlp())
    monkeypatch.setattr(versions, "installed", {"torch": "2.5.1+cpu"}.get)
    with pytest.raises(UnsupportedError, match=r"torch 2.5.1\+cpu is too old to build what a pack describes"):
        arch.build(described)


@pytest.mark.parametrize("data", [np.log(2.0), np.zeros(2), np.zeros(0), [], [1.0]])
def test_a_constructor_may_make_tensors_of_anything(data):
    def construct():
        model = nn.Linear(2, 2)
        model.register_buffer("made", torch.tensor(data), persistent=True)
        model.register_buffer("kept", torch.arange(2), persistent=False)
        return model

    assert skeleton.build_skeleton(construct, "this model", Budget()).made.shape == torch.tensor(data).shape


def test_each_of_equal_faulty_layers_is_named():
    wrong = {"class": "Linear", "config": {"in_features": 1}}
    config = {"children": [{"name": name, **wrong} for name in "ab"]}
    for _ in range(2):
        problems = architecture_problems("torch.nn", "Sequential", JsonText(canonical.dumps(config)))
        assert {problem.where for problem in problems} == {
            f"architecture.config.children[{index}].config" for index in range(2)
        }


class Peeks(nn.Module):
    """A module whose constructor reads a weight."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.first = self.layer.weight.detach()[0, 0].item()


def test_a_constructor_that_reads_weights_is_told_so():
    model = lottapack.build("python", f"{__name__}:Peeks")
    with pytest.raises(ArchitectureError, match=r"cannot build .*Peeks") as raised:
        lottapack.scaffold(model, seed=1, rank=1)
    assert "Its constructor reads values of weights" in raised.value.hint


class Rates(nn.Module):
    """A module whose constructor reads numbers that it computes, as for the rates of stochastic depth."""

    def __init__(self, depth: int = 3):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.5, depth)]
        widths = (torch.arange(depth) * 2.5 + 4).round().int().tolist()
        self.layers = nn.ModuleList(nn.Linear(4, width) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(int(width)) for width in torch.tensor(widths).numpy())
        self.drops = nn.ModuleList(nn.Dropout(rate) for rate in rates)

    def forward(self, x):
        parts = zip(self.layers, self.norms, self.drops, strict=True)
        return torch.cat([drop(norm(layer(x))) for layer, norm, drop in parts], 1)


class RatesAndSteps(Rates):
    """The same with a tensor that no checkpoint holds."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.arange(4.0), persistent=False)

    def forward(self, x):
        return super().forward(x + self.steps)


@pytest.mark.parametrize("name", ["Rates", "RatesAndSteps"])
def test_a_constructor_may_read_numbers_that_it_computes(name, tmp_path):
    given = torch.randn(5, 4)
    model = lottapack.build("python", f"{__name__}:{name}")
    assert all(tensor.is_meta for tensor in arch.described(model)[1].state_dict().values())
    lottapack.scaffold(model, seed=1, rank=1)(given)
    lottapack.pack(model.eval(), tmp_path / "p.lotta.safetensors")
    loaded = lottapack.load(tmp_path / "p.lotta.safetensors", allow=__name__)
    assert [drop.p for drop in loaded.drops] == [0, 0.25, 0.5]
    assert torch.equal(loaded(given), model(given))


def test_a_model_of_computed_sizes_is_drawn_as_torch_does():
    torch.manual_seed(3)
    model = lottapack.build("python", f"{__name__}:Rates")
    with allowing(__name__):
        drawn = arch.draw(arch.describe(model), 3)
    assert all(torch.equal(tensor, drawn.state_dict()[name]) for name, tensor in model.state_dict().items())


class DrawsOnTheCPU(nn.Module):
    """A module that initialises its weights as fairseq does, and moves its layers."""

    def __init__(self):
        super().__init__()
        self.layer, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        for data in (self.layer.weight.data, self.other.weight.data):
            data.copy_(data.cpu().normal_(0, 0.02).to(data.device))
            data.copy_(data.to("cpu", torch.float64).normal_().to(device=data.device, dtype=torch.float32).to(data))
            data.copy_(data.to(torch.device("cpu"), copy=True))
        self.layer.to("cpu").cpu()
        self.other.to(torch.device("cpu"), torch.bfloat16)

    def forward(self, x):
        return self.other(self.layer(x).bfloat16())


def test_weights_may_be_drawn_on_the_cpu(tmp_path):
    model = lottapack.scaffold(lottapack.build("python", f"{__name__}:DrawsOnTheCPU"), seed=1, rank=1).eval()
    loaded = lottapack.load(lottapack.pack(model, tmp_path / "p.lotta.safetensors").path, allow=__name__)
    given = torch.randn(5, 4)
    assert torch.equal(loaded(given).view(torch.int16), model(given).view(torch.int16))


@pytest.mark.parametrize(
    ("wrap", "inner"),
    [
        (partial(torch.compile, backend="eager"), "_orig_mod"),
        (nn.DataParallel, "module"),
        (torch.optim.swa_utils.AveragedModel, "module"),
    ],
)
def test_a_wrapped_model_is_told_from_one_of_an_unknown_family(wrap, inner):
    wrapped = wrap(mlp())
    with pytest.raises(ArchitectureError, match="wraps the model") as raised:
        lottapack.scaffold(wrapped, seed=1, rank=1)
    assert f"`model.{inner}`" in raised.value.hint
    lottapack.scaffold(getattr(wrapped, inner), seed=1, rank=1)


def test_a_model_that_has_a_part_called_module_wraps_nothing(tmp_path):
    from collections import OrderedDict

    layers = OrderedDict(module=nn.Linear(4, 3), head=nn.Linear(3, 2))
    model = lottapack.scaffold(nn.Sequential(layers), seed=1, rank=1)
    loaded = lottapack.load(lottapack.pack(model, tmp_path / "p.lotta.safetensors").path)
    assert torch.equal(loaded.module.weight, model.module.weight)
