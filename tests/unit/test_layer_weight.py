"""Reading the weight of an adapted layer gives its effective weight."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from models import bits, tied_llama
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import lottapack
from lottapack.nn.layer_weight import LayerWeight


class Parent(nn.Sequential):
    """Reads the weights of its children and calls none of them."""

    def forward(self, x):
        first, second, last = self
        hidden = F.linear(x, first.weight, first.bias)
        hidden = F.conv1d(hidden.mT, second.weight, second.bias, padding=1, groups=6).mT
        return torch.tanh(hidden @ last.weight.t() + last.bias)


class Caller(nn.Sequential):
    """The same function, by calls."""

    def forward(self, x):
        first, second, last = self
        return torch.tanh(last(second(first(x).mT).mT))


def layers():
    return nn.Linear(8, 6), nn.Conv1d(6, 6, 3, groups=6, padding=1), nn.Linear(6, 8)


def adapted(kind=Parent, *, magnitude=False, **options):
    """A scaffolded model whose trained parameters are random."""
    plain = nn.Sequential(*layers())
    options = {"seed": 3, "rank": 2, "targets": "*", "train": "biases", "alpha": 3.0, **options}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = lottapack.scaffold(plain, **options)
        for layer in model:
            if magnitude:
                layer.magnitude = nn.Parameter(torch.rand(len(layer.lora_B)) + 0.5)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "magnitude" not in name:
                    parameter.add_(torch.randn(parameter.shape) * 0.3)
    return kind(*model)


def merged(model):
    plain = type(model)(*layers())
    with torch.no_grad():
        for layer, one in zip(plain, model, strict=True):
            layer.weight.copy_(one.merged_weight())
            layer.bias.copy_(one.bias)
    return plain


def gradients(model, x):
    outputs = model(x)
    found = torch.autograd.grad(outputs.square().sum(), list(model.parameters()))
    return outputs, dict(zip(dict(model.named_parameters()), found, strict=True))


def near(one, other, bound=1e-5):
    return torch.allclose(one, other, rtol=bound, atol=bound)


X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", ["materialised", "blocks"])
@pytest.mark.parametrize("magnitude", [False, True])
def test_readers_and_callers_have_the_same_outputs_and_gradients(magnitude, backbone):
    reader, caller = (adapted(kind, magnitude=magnitude, backbone=backbone) for kind in (Parent, Caller))
    outputs, found = gradients(reader, X)
    expected, wanted = gradients(caller, X)
    assert near(outputs, expected)
    assert near(outputs, merged(reader)(X))
    assert len(found) == 3 * (5 if magnitude else 4)
    for name, gradient in found.items():
        assert gradient.abs().sum() > 0, name
        assert near(gradient, wanted[name], 1e-4), name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    reader = adapted()
    with mode():
        assert near(reader(X), merged(reader)(X))


def test_autocast_uses_the_weight_and_not_a_rounded_product_of_its_factors():
    reader = adapted()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, expected = reader(X), merged(reader)(X)
        assert near(reader[0].weight.clone(), reader[0].merged_weight(), 1e-6)
    assert near(outputs, expected, 1e-2)
    outputs.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in reader.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_rounded_once(dtype):
    reader = adapted().to(dtype)
    for layer in reader:
        assert layer.weight.dtype == dtype
        assert near(layer.weight.float(), layer.merged_weight().float(), 1e-6 if dtype == torch.float64 else 4e-3)
    reader(X.to(dtype)).sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in reader.parameters())


def test_second_derivatives():
    found = []
    for kind in (Parent, Caller):
        model = adapted(kind)
        first = torch.autograd.grad((model(X) ** 3).sum(), list(model.parameters()), create_graph=True)
        found.append(torch.autograd.grad(sum((one**2).sum() for one in first), list(model.parameters())))
    assert all(near(one, other, 1e-3) for one, other in zip(*found, strict=True))


class Product(torch.autograd.Function):
    """A library's own kernel gets the object and returns a gradient for it."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight, gradient.flatten(0, -2).t() @ x.flatten(0, -2)


def test_functions_with_a_backward_pass_of_their_own():
    layer = adapted()[0]
    Product.apply(X, layer.weight).square().sum().backward()
    found = layer.lora_A.grad.clone(), layer.lora_B.grad.clone(), layer.beta.grad.clone()
    layer.zero_grad()
    F.linear(X, layer.weight).square().sum().backward()
    assert all(
        near(one, other.grad) for one, other in zip(found, (layer.lora_A, layer.lora_B, layer.beta), strict=True)
    )


def test_compiled_exported_and_traced():
    reader = adapted()
    expected, wanted = gradients(reader, X)
    outputs, found = gradients(torch.compile(reader, backend="aot_eager", fullgraph=True), X)
    assert near(outputs, expected)
    assert all(near(found[f"_orig_mod.{name}"], value) for name, value in wanted.items())
    for model in (reader, adapted(Caller)):
        exported = torch.export.export(model, (X,)).module()
        assert near(exported(X), expected)
    with pytest.raises(lottapack.errors.UnsupportedError, match=r"^0: torch\.fx cannot trace a layer with an adapter"):
        torch.fx.symbolic_trace(reader)


def test_transforms_of_functions():
    reader = adapted()
    expected, wanted = gradients(reader, X)
    parameters = dict(reader.named_parameters())

    def loss(values, x):
        return torch.func.functional_call(reader, values, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters, X)
    assert all(near(found[name], value, 1e-4) for name, value in wanted.items())
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, X[:, None])
    assert all(near(each[name].sum(0), value, 1e-4) for name, value in wanted.items())
    other = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    assert near(torch.func.functional_call(reader, other, (X,)), expected)
    with forward_ad.dual_level():
        layer = copy.deepcopy(reader[0])
        a, tangent = layer.lora_A.detach(), torch.ones_like(layer.lora_A)
        del layer._parameters["lora_A"]
        layer.lora_A = forward_ad.make_dual(a, tangent)
        moved = forward_ad.unpack_dual(layer.weight).tangent
    assert near(moved, layer.scaling * layer.lora_B @ tangent)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(reentrant):
    reader = adapted()
    _, wanted = gradients(reader, X)
    checkpoint(reader, X.clone().requires_grad_(), use_reentrant=reentrant).square().sum().backward()
    assert all(near(parameter.grad, wanted[name]) for name, parameter in reader.named_parameters())


def test_a_backward_pass_over_a_changed_adapter_is_refused():
    reader = adapted()
    loss = reader(X.clone().requires_grad_()).sum()
    with torch.no_grad():
        reader[2].lora_B.add_(1)
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation|was changed in place since then"):
        loss.backward()


def test_what_it_knows_costs_no_computation():
    layer = adapted()[0]
    layer._combine = None  # would raise if it were called
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    assert not isinstance(weight, nn.Parameter)
    assert (weight.shape, weight.dtype, weight.device, len(weight)) == ((6, 8), torch.float32, torch.device("cpu"), 6)
    assert weight.requires_grad
    assert not weight.is_leaf
    assert weight.grad is None
    assert weight.detach().requires_grad is False
    assert weight.t()[:3].shape == (3, 6)
    with torch.no_grad():
        assert not layer.weight.requires_grad


READS = {
    "numpy": lambda weight: torch.from_numpy(weight.detach().numpy()),
    "tolist": lambda weight: torch.tensor(weight.tolist()),
    "deepcopy": copy.deepcopy,
    "storage": lambda weight: torch.empty(0).set_(weight.untyped_storage(), 0, (6, 8)),
    "dlpack": lambda weight: torch.from_dlpack(weight.detach()),
    "chunk": lambda weight: torch.cat(weight.chunk(2)),
    "rows": lambda weight: torch.stack(list(weight)),
    "transposed": lambda weight: weight.T.contiguous().mT,
    "view": lambda weight: weight.view(-1)[:].reshape(6, 8),
    "einsum": lambda weight: torch.einsum("oi,ij->oj", weight, torch.eye(8)),
    "copied": lambda weight: torch.zeros(6, 8).copy_(weight),
    "data": lambda weight: weight.data.clone(),
}


@pytest.mark.parametrize("read", READS)
def test_reading(read):
    layer = adapted()[0]
    assert near(READS[read](layer.weight).detach(), layer.merged_weight(), 1e-4)


def test_saving_and_copying():
    layer = adapted()[0]
    memory = io.BytesIO()
    torch.save(layer.weight, memory)
    memory.seek(0)
    assert near(torch.load(memory), layer.merged_weight())
    assert layer.weight.data_ptr() != 0
    assert repr(layer.weight.detach()) == repr(layer.weight.clone().detach())
    assert near(copy.deepcopy(layer).weight, layer.weight)


WRITES = {
    "zero_": lambda layer: layer.weight.zero_(),
    "data": lambda layer: layer.weight.data.mul_(2),
    "item": lambda layer: layer.weight.__setitem__(0, 1.0),
    "a row of data": lambda layer: layer.weight.data[0].zero_(),
    "a view": lambda layer: layer.weight.t().zero_(),
    "init": lambda layer: nn.init.normal_(layer.weight),
    "reset": lambda layer: layer.reset_parameters(),
    "new data": lambda layer: setattr(layer.weight, "data", torch.zeros(6, 8)),
    "requires_grad": lambda layer: layer.weight.requires_grad_(False),
    "a parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.zeros(6, 8))),
    "a tensor": lambda layer: setattr(layer, "weight", torch.zeros(6, 8)),
    "another's": lambda layer: setattr(layer, "weight", adapted()[0].weight),
    "out": lambda layer: torch.add(layer.weight.detach(), 1, out=layer.weight.detach()),
    "hook": lambda layer: layer.weight.register_hook(print),
    "shared memory": lambda layer: layer.weight.share_memory_(),
}


@pytest.mark.parametrize("write", WRITES)
def test_writing_is_refused_by_name(write):
    model = adapted()
    before = bits(model[0].backbone), model(X)
    with (
        torch.no_grad(),
        pytest.raises(lottapack.errors.ScaffoldError, match=r"^the weight of 0 follows from its seed") as caught,
    ):
        WRITES[write](model[0])
    assert "before scaffold()" in str(caught.value)
    assert bits(model[0].backbone) == before[0]
    assert torch.equal(model(X), before[1])


def test_the_backbone_is_the_buffer():
    model = adapted(persistent=True)
    held = dict(model.named_buffers())
    assert held["0.backbone"] is model[0].backbone
    assert model.get_buffer("0.backbone") is model[0].backbone
    other = adapted(seed=4, persistent=True)
    other.load_state_dict(model.state_dict(), assign=True)
    assert bits(other[0].backbone) == bits(model[0].backbone)
    assert torch.equal(other(X), model(X))


def test_a_head_that_is_tied_to_an_adapted_embedding():
    model = lottapack.scaffold(tied_llama(), seed=1, rank=2, targets="embed_tokens", train=[])
    embedding, head = model.model.embed_tokens, model.lm_head
    with torch.no_grad():
        embedding.lora_B.normal_()
    assert isinstance(head.weight, LayerWeight)
    assert near(head.weight, embedding.merged_weight())
    x = torch.randn(3, 16)
    assert near(F.linear(x, head.weight), head(x), 1e-4)
    F.linear(x, head.weight).sum().backward()
    assert embedding.lora_B.grad.abs().sum() > 0
    head.weight = embedding.weight  # as a library ties them
    assert near(head.weight, embedding.merged_weight())


@pytest.mark.parametrize("grad", [True, False])
def test_fast_paths_step_aside(grad):
    torch.manual_seed(2)
    options = {"d_model": 16, "nhead": 2, "dim_feedforward": 32, "dropout": 0.0, "batch_first": True}
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(**options), 2)
    linear = [getattr(layer, name) for layer in model.layers for name in ("linear1", "linear2")]
    lottapack.scaffold(nn.Sequential(*linear), seed=1, rank=2, targets="*")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "beta" in name:
                parameter.add_(torch.randn(parameter.shape) * 0.5)
    x, padding = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for mask in (None, padding):
        trained = model.train()(x, src_key_padding_mask=mask)
        with torch.set_grad_enabled(grad):
            found = model.eval()(x, src_key_padding_mask=mask)
        kept = slice(None) if mask is None else ~mask
        assert near(found[kept], trained[kept])
