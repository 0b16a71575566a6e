"""Virtual weights of modules of any class, which the modules' own code reads: experts, recurrent layers, subclasses."""

import copy
import pickle

import pytest
import test_any_module
import torch
import transformers
from extent import crossed
from memory import peak, size
from models import bits
from test_any_module import X, kinds, plain, scaffolded
from torch import nn
from torch.utils.checkpoint import checkpoint

import lottapack
from lottapack.errors import LimitError, ScaffoldError, UnsupportedError
from lottapack.nn.any_module import merged_parameter
from lottapack.nn.generated import generated_of
from lottapack.rng import fill

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
package = test_any_module.package
MODES = {"sign1": "virtual", "normal16": "blocks"}
FROZEN = {"targets": ["first"], "train": ["heads", "biases"]}


def pair(kind, table="normal16", **options):
    """The same model materialised, and with a virtual body."""
    options = {"distribution": table, "scaffolds": {"other": 4}, **options}

    def backbone(name, _):
        return MODES[table] if name.startswith("body.") else "materialised"

    return scaffolded(kind, **options), scaffolded(kind, backbone=backbone, **options)


def virtual(model):
    """The names of the weights that are not in memory."""
    sources = ((path, module.__dict__.get("_lottapack")) for path, module in model.named_modules())
    return sorted(f"{path}.{leaf}" for path, noted in sources if noted is not None for leaf in noted.virtual)


def step(model, x=X):
    """The output, and the gradients of a training step."""
    model.zero_grad()
    out = model(x)
    out.square().sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("table", "options"), [("sign1", {}), ("normal16", FROZEN)], ids=["adapted", "frozen"])
@pytest.mark.parametrize("kind", kinds())
def test_a_module_is_the_same_with_and_without_its_weights(kind, table, options, package, tmp_path):
    full, model = pair(kind, table, **options)
    if kind == "router" and options:
        assert not virtual(model)  # a constant keeps its value
        return
    names = virtual(model)
    assert names and all(name.startswith("body.") for name in names)
    held = {bits(tensor) for name, tensor in full.named_buffers() if name.startswith("body.")}
    assert held and not held & {bits(tensor) for tensor in model.buffers()}
    assert {n: bits(t) for n, t in model.state_dict().items()} == {n: bits(t) for n, t in full.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(model(X), full(X))
    (out, found), (due_out, due) = step(model), step(full)
    assert torch.equal(out, due_out)
    assert {name: bits(gradient) for name, gradient in found.items()} == {n: bits(due[n]) for n in due}
    one, other = lottapack.pack(model, tmp_path / "virtual"), lottapack.pack(full, tmp_path / "full")
    assert one.path.read_bytes() == other.path.read_bytes()
    allow = "any_modules"
    again = lottapack.load(one.path, backbone={"body*": MODES[table]}, allow=allow, check_fingerprints=True)
    assert virtual(again) == names
    assert torch.equal(again(X), lottapack.load(one.path, allow=allow)(X))
    assert not virtual(lottapack.load(one.path, allow=allow, merge=True))
    everywhere = lottapack.load(one.path, backbone=MODES[table], allow=allow)
    assert set(names) < set(virtual(everywhere))
    torch.testing.assert_close(everywhere(X), full(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, FROZEN], ids=["adapted", "frozen"])
@pytest.mark.parametrize("kind", ["experts", "lstm", "attention", "subclass"])
def test_copies_conversions_and_other_scaffolds(kind, options, package, tmp_path):
    full, model = pair(kind, **options)
    before = model(X).detach()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert virtual(other) == virtual(model)
        assert torch.equal(other(X), before)
    low, due = copy.deepcopy(model).bfloat16(), copy.deepcopy(full).bfloat16()
    with torch.no_grad():
        assert torch.equal(low(X.bfloat16()), due(X.bfloat16()))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(X), full(X))
    assert low.to("meta")(X.bfloat16().to("meta")).shape == before.shape
    with lottapack.switch(model, "other"), lottapack.switch(full, "other"):
        assert torch.equal(model(X), full(X))
        assert not torch.equal(model(X), before)
        step(model)
    assert torch.equal(model(X), before)
    assert torch.equal(lottapack.nn.regenerate_(model)(X), before)
    fresh = lottapack.scaffold(
        plain(kind),
        seed=3,
        rank=2,
        alpha=3.0,
        backbone={"body*": "blocks"},
        distribution="normal16",
        scaffolds={"other": 4},
        **options,
    )
    fresh.load_state_dict(full.state_dict())
    assert torch.equal(fresh.eval()(X), before)
    persistent = scaffolded(kind, distribution="normal16", scaffolds={"other": 4}, persistent=True, **options)
    fresh.load_state_dict(persistent.state_dict())
    assert torch.equal(fresh(X), before)


def test_a_backward_pass_has_the_backbone_of_its_forward_pass(package):
    model = pair("experts")[1]
    _, due = step(model)
    model.zero_grad()
    out = model(X).square().sum()
    lottapack.switch(model, "other")
    out.backward()
    assert all(torch.equal(p.grad, due[name]) for name, p in model.named_parameters() if p.grad is not None)
    out = checkpoint(model, X, use_reentrant=False).square().sum()
    lottapack.switch(model, "default")
    with pytest.raises(ScaffoldError, match="gradient checkpointing runs the forward pass again"):
        out.backward()


def test_a_recurrent_layer_is_not_run_again_on_another_backbone(package):
    model = pair("lstm")[1]
    out = model(X).square().sum()
    lottapack.switch(model, "other")
    with pytest.raises(ScaffoldError, match=r"body\.inner.*forward pass again"):
        out.backward()


@pytest.mark.parametrize(("kind", "options"), crossed(["experts", "lstm", "raw"], [{}, FROZEN]))
@pytest.mark.filterwarnings("ignore")  # of torch's tracer and compiler, of themselves
def test_compiled_callers_see_the_whole_weight(kind, options, package):
    full, model = pair(kind, **options)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(X), full(X))
    lottapack.switch(model, "other"), lottapack.switch(full, "other")
    torch.testing.assert_close(compiled(X), full(X))
    torch.testing.assert_close(torch.jit.trace(model, X, check_trace=False)(2 * X), full(2 * X))
    if kind != "lstm":
        given = X[0]
        due = torch.func.grad(lambda x: full(x).square().sum())(given)
        torch.testing.assert_close(torch.func.grad(lambda x: model(x).square().sum())(given), due)
        torch.testing.assert_close(torch.vmap(model)(X), full(X))


WAYS = {
    "int": lambda w: w[1].exp(),
    "negative": lambda w: w[-1].exp(),
    "number": lambda w: w[torch.tensor(2)].mT.exp(),
    "numbers": lambda w: w[torch.tensor([2, 0, 2])].exp(),
    "grid": lambda w: w[torch.tensor([[2, 0], [1, 1]])][1].exp(),
    "none of them": lambda w: w[torch.tensor([], dtype=torch.int64)].exp(),
    "slice": lambda w: w[1:].exp(),
    "steps": lambda w: w[::2][1].exp(),
    "places": lambda w: w[1, :, 2:4].exp(),
    "mask": lambda w: w[torch.tensor([True, False, True])].exp(),
    "select": lambda w: w.select(0, 2).exp(),
    "another dimension": lambda w: w.select(1, 2).exp(),
    "narrow": lambda w: w.narrow(0, 1, 1).exp(),
    "unbind": lambda w: torch.stack([one.exp() for one in w]),
    "chunk": lambda w: w.chunk(3)[2].exp(),
    "chunk of columns": lambda w: w.chunk(2, -1)[1].exp(),
    "split": lambda w: w.split([1, 2])[1].exp(),
    "transposed": lambda w: w.transpose(-1, -2)[2].exp(),
    "permuted": lambda w: w.permute(1, 0, 2)[0].exp(),
    "all": lambda w: w.exp(),
    "flat": lambda w: w.reshape(-1)[3:5].exp(),
    "product": lambda w: torch.bmm(torch.ones(3, 2, w.shape[1]), w),
    "einsum": lambda w: torch.einsum("eoi,xo->xi", w, torch.ones(2, w.shape[1])),
}


@pytest.mark.parametrize("options", [{}, FROZEN], ids=["adapted", "frozen"])
@pytest.mark.parametrize("way", WAYS)
def test_a_weight_is_read_in_every_way(way, options, package):
    full, model = pair("experts", **options)
    read = WAYS[way]
    found, due = read(model.body.gate_up_proj), read(full.body.gate_up_proj)
    torch.testing.assert_close(found, due, rtol=1e-6, atol=1e-6)
    if not options:
        assert all(torch.equal(one, other) for one, other in zip(*map(by_adapter, (found, due), (model, full))))  # noqa: B905


def test_a_large_batch_is_computed_in_pieces(package, monkeypatch):
    full, model = pair("experts, batched")
    out, due = step(full)
    monkeypatch.setattr("lottapack.nn.layer_weight._AT_ONCE", 100)
    found_out, found = step(model)
    torch.testing.assert_close(found_out, out)
    for name in due:
        torch.testing.assert_close(found[name], due[name], rtol=1e-5, atol=1e-5 * float(due[name].abs().max()))


def by_adapter(out, model):
    """The gradients of the body's adapters."""
    parameters = [getattr(model.body, f"gate_up_proj_{part}") for part in ("lora_A", "lora_B", "beta")]
    found = torch.autograd.grad(out.square().sum(), parameters, allow_unused=True)
    return [torch.zeros(1) if one is None else one for one in found]


@pytest.mark.parametrize("index", [3, torch.tensor([0, 5]), torch.tensor(-4)])
def test_an_index_beyond_the_weight_is_an_error(index, package):
    with pytest.raises(IndexError):
        pair("experts")[1].body.gate_up_proj[index].clone()


def test_a_changed_adapter_is_noticed_in_the_backward_pass(package):
    model = pair("experts")[1]
    x = X.clone().requires_grad_()
    out = model(x).sum()
    with torch.no_grad():
        model.body.gate_up_proj_lora_A.mul_(2)
    with pytest.raises(RuntimeError, match=r"changed in place|modified by an inplace operation"):
        out.backward()


@pytest.fixture
def drawn(monkeypatch):
    """The numbers of elements that are generated, by tensor."""
    counts = {}

    def counting(function):
        def counted(tensor, source, *rest):
            counts[source.name] = counts.get(source.name, 0) + tensor.numel()
            return function(tensor, source, *rest)

        return counted

    for name in ("fill_", "fill_runs_"):
        monkeypatch.setattr(fill, name, counting(getattr(fill, name)))
    return counts


EXPERTS = {
    "Mixtral": (transformers.MixtralForCausalLM, transformers.MixtralConfig, {"num_local_experts": 8}),
    "Qwen3-MoE": (
        transformers.Qwen3MoeForCausalLM,
        transformers.Qwen3MoeConfig,
        {"num_experts": 8, "moe_intermediate_size": 24, "num_experts_per_tok": 2, "head_dim": 8},
    ),
    "GPT-OSS": (
        transformers.GptOssForCausalLM,
        transformers.GptOssConfig,
        {"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 8},
    ),
    "Llama 4": (
        transformers.Llama4ForCausalLM,
        transformers.Llama4TextConfig,
        {"num_local_experts": 8, "intermediate_size_mlp": 24, "head_dim": 8},
    ),
}
SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}
WAYS_OF_EXPERTS = ["eager", "batched_mm", "grouped_mm"]


def experts(name, backbone, way, **options):
    kind, config, sizes = EXPERTS[name]
    torch.manual_seed(0)
    model = kind(config(**{**SIZES, **sizes, "pad_token_id": 0}))
    if name != "Llama 4":
        model.set_experts_implementation(way)
    model = lottapack.scaffold(model, seed=7, rank=2, backbone=backbone, **options)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.1)
    return model.eval()


@pytest.mark.parametrize("options", [{}, {"targets": ["q_proj"], "train": ["heads"]}], ids=["adapted", "frozen"])
@pytest.mark.parametrize(
    ("name", "way"), [(n, w) for n in EXPERTS for w in WAYS_OF_EXPERTS if n != "Llama 4" or w == "eager"]
)
def test_experts_of_transformers(name, way, options, tmp_path):
    tokens = torch.tensor([[3, 9]])
    full = experts(name, "materialised", way, **options)
    model = experts(name, {"*experts*": "blocks"}, way, **options)
    assert {one.rpartition(".")[2] for one in virtual(model)} == {"gate_up_proj", "down_proj"}
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, full(tokens).logits)
    gradients = []
    for one in (model, full):
        one(tokens).logits.square().sum().backward()
        gradients.append({n: p.grad for n, p in one.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, due in gradients[1].items():
        torch.testing.assert_close(gradients[0][key], due, rtol=1e-4, atol=1e-5 * float(due.abs().max()))
    pack = lottapack.pack(model, tmp_path / "moe").path
    loaded = lottapack.load(pack, backbone="blocks")
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, full(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS_OF_EXPERTS)
def test_only_the_experts_of_these_tokens_are_generated(way, drawn):
    model = experts("Mixtral", {"*experts*": "blocks"}, way)
    drawn.clear()
    with torch.no_grad():
        model(torch.tensor([[3]]))  # one token, two of eight experts
    sizes = {"gate_up_proj": 2 * 48 * 16, "down_proj": 2 * 24 * 16}
    assert {name.rpartition(".")[2]: count for name, count in drawn.items()} == sizes


class MixtureOfExperts(nn.Module):
    """Experts of 4 MB each, of which a pass uses two, one after the other."""

    def __init__(self):
        super().__init__()
        self.up_proj = nn.Parameter(torch.empty(8, 1024, 1024).normal_())
        self.head = nn.Linear(1024, 2)

    def forward(self, x):
        for number in (5, 2):
            x = torch.tanh(x @ self.up_proj[number].mT)
        return self.head(x)


EXPERT = 4 << 20


@pytest.mark.parametrize("options", [{}, {"targets": ["head"], "train": []}], ids=["adapted", "frozen"])
@pytest.mark.parametrize("training", [False, True])
def test_memory_is_that_of_the_expert_in_use(training, options):
    model = lottapack.build("python", "test_virtual_modules:MixtureOfExperts")
    model = lottapack.scaffold(model, seed=1, rank=2, backbone="blocks", **options)
    assert ".up_proj" in virtual(model)
    assert size(model) < EXPERT
    x = torch.ones(2, 1024)

    def run():
        with torch.set_grad_enabled(training):
            out = model(x)
            if training:
                out.square().sum().backward()

    run()
    most = peak(run)[1]
    # The expert, and what the sum with its adapter needs; its gradient in the backward pass.
    assert most < (1.5 if options else 6.5) * EXPERT + (1 << 20), most / EXPERT


def test_the_limit_counts_a_whole_weight():
    def scaffold(max_bytes):
        model = lottapack.build("python", "test_virtual_modules:MixtureOfExperts")
        return lottapack.scaffold(model, seed=1, rank=2, backbone="blocks", max_bytes=max_bytes)

    with pytest.raises(LimitError, match=r"up_proj: the whole weight, which the module's own code reads, needs 33,554"):
        scaffold(30 << 20)
    assert virtual(scaffold(40 << 20))


class Bags(nn.Module):
    """A table of which a forward pass would shrink rows in place, between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.bags, self.last = nn.Linear(8, 8), nn.EmbeddingBag(8, 8, max_norm=1.0), nn.Linear(8, 8)


def test_what_cannot_be_virtual_stays_in_memory_with_a_warning(caplog):
    def scaffold(backbone):
        model = lottapack.build("python", "test_virtual_modules:Bags")
        return lottapack.scaffold(model, seed=1, rank=2, train=["last"], backbone=backbone)

    with pytest.raises(UnsupportedError, match=r"bags\.weight cannot be generated in blocks: weight of"):
        scaffold({"bags": "blocks"})
    assert virtual(scaffold("blocks")) == ["first.weight"]
    assert "bags.weight stay in memory, because their layers do not support virtual weights" in caplog.text


class Scaled(nn.Embedding):
    """An embedding with a forward of its own, as transformers has several, and a layer."""

    def __init__(self):
        super().__init__(50, 12)
        self.layer = nn.Linear(12, 12)

    def forward(self, input):  # noqa: A002
        return self.layer(3 * super().forward(input))


def test_rows_of_a_frozen_embedding_of_any_class_are_generated_alone(drawn):
    def build(backbone):
        model = lottapack.build("python", "test_virtual_modules:Scaled")
        return lottapack.scaffold(model, seed=1, rank=2, targets=["layer"], train=[], backbone=backbone)

    full, model = build("materialised"), build(lambda name, _: "blocks" if name == "weight" else "materialised")
    given = torch.tensor([[4, 5, 6]])
    drawn.clear()
    assert torch.equal(model(given), full(given))
    assert drawn == {"weight": 36}
    assert torch.equal(model(torch.tensor([49, 3])), full(torch.tensor([49, 3])))
    for wrong in (-1, 50):
        with pytest.raises(IndexError):
            model(torch.tensor([wrong]))
    for no_indices in (torch.tensor([1.5]), torch.ones(50).byte()):
        with pytest.raises(RuntimeError, match="indices"):
            model(no_indices)
    assert generated_of(model) is not None


class Half(Scaled):
    """An embedding that looks up a part of its rows."""

    def forward(self, input):  # noqa: A002
        return self.layer(nn.functional.embedding(input, self.weight.narrow(0, 10, 40)))


@pytest.mark.parametrize("given", [[], [7], [3, 2, 1], [[4, 5], [0, 39]]], ids=str)
def test_rows_of_a_part_of_an_embedding_are_those_of_the_whole(given):
    def build(backbone):
        model = lottapack.build("python", "test_virtual_modules:Half")
        return lottapack.scaffold(model, seed=1, rank=2, targets=["layer"], train=[], backbone=backbone)

    full, model = build("materialised"), build(lambda name, _: "blocks" if name == "weight" else "materialised")
    rows = torch.tensor(given, dtype=torch.int64)
    assert torch.equal(model(rows), full(rows))


def test_the_merged_weight_of_a_virtual_parameter(package):
    full, model = pair("experts")
    assert bits(merged_parameter(model.body, "down_proj")) == bits(merged_parameter(full.body, "down_proj"))
    assert "down_proj: blocks" in repr(model.body)


def test_a_mixture_of_experts_runs_virtual_by_default(tmp_path):
    pack = lottapack.pack(experts("Mixtral", "materialised", "grouped_mm", distribution="sign1"), tmp_path / "moe").path
    found, due = (lottapack.run(pack, tokens=[3, 9], new_tokens=3, backbone=way) for way in (None, "materialised"))
    assert (found.backbone, found.tokens) == ("virtual", due.tokens)
