"""Small modules of many kinds, each between two linear layers: what torch.nn has, and what people write themselves.

``MODULES`` has a function for each that makes the module, and one that runs it on (2, 6, 16), which gives any number
of outputs of which the last dimension is 16; by default the module is called. ``REFUSED`` are those that lottapack
refuses, with what the error says.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

Run = Callable[[Any, Tensor], Tensor]


def call(module: Any, x: Tensor) -> Tensor:
    """The module of the input."""
    return module(x)  # type: ignore[no-any-return]


def first(module: Any, x: Tensor) -> Tensor:
    """The first of what the module gives."""
    return module(x)[0]  # type: ignore[no-any-return]


def channels(module: Any, x: Tensor) -> Tensor:
    """A convolution over the sequence."""
    return module(x.mT).mT[:, :6]  # type: ignore[no-any-return]


def picture(module: Any, x: Tensor) -> Tensor:
    """A convolution over a picture of 2 by 3."""
    return module(x.mT.reshape(2, 16, 2, 3)).flatten(2).mT  # type: ignore[no-any-return]


def volume(module: Any, x: Tensor) -> Tensor:
    """A convolution over a volume of 1 by 2 by 3."""
    return module(x.mT.reshape(2, 16, 1, 2, 3)).flatten(2).mT  # type: ignore[no-any-return]


def itself(module: Any, x: Tensor) -> Tensor:
    """Attention of a sequence to itself."""
    return module(x, x, x)[0]  # type: ignore[no-any-return]


def both(module: Any, x: Tensor) -> Tensor:
    """A decoder's output for a sequence and itself."""
    return module(x, x.flip(1))  # type: ignore[no-any-return]


def step_by_step(module: Any, x: Tensor) -> Tensor:
    """A recurrent cell over the sequence."""
    state: Any = None
    found = []
    for one in x.unbind(1):
        state = module(one, state)
        found.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(found, 1)


def tokens(module: Any, x: Tensor) -> Tensor:
    """An embedding of the largest inputs' numbers, added."""
    return x + module(x.argmax(-1))


def bags(module: Any, x: Tensor) -> Tensor:
    """Bags of embeddings, added."""
    return x + module(x.argmax(-1))[:, None]


def parameter(*shape: int) -> nn.Parameter:
    """Random numbers."""
    return nn.Parameter(torch.randn(shape) / math.sqrt(shape[-1]))


class Raw(nn.Module):
    """Parameters of given names and shapes, that only functions of the forward pass use."""

    def __init__(self, run: Callable[..., Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.run = run
        for name, shape in shapes.items():
            self.register_parameter(name, parameter(*shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, *self.parameters())


class Matmul(nn.Module):
    """A raw parameter called ``weight``."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = parameter(*shape)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT


class Experts(nn.Module):
    """Experts as in current libraries, stored either way, a loop over those that are used."""

    def __init__(self, is_transposed: bool = False) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        self.gate_up_proj = parameter(*((4, 16, 48) if is_transposed else (4, 48, 16)))
        self.down_proj = parameter(*((4, 24, 16) if is_transposed else (4, 16, 24)))
        self.router = nn.Linear(16, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        share, out = self.router(x).softmax(-1), torch.zeros_like(x)
        for number in range(4):
            gates, down = self.gate_up_proj[number], self.down_proj[number]
            if not self.is_transposed:
                gates, down = gates.mT, down.mT
            gate, up = (x @ gates).chunk(2, -1)
            out = out + share[..., number : number + 1] * ((F.silu(gate) * up) @ down)
        return out


class BatchedExperts(nn.Module):
    """Experts all at once, by one product of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.up_proj, self.down_proj = parameter(4, 16, 24), parameter(4, 24, 16)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bld,edh->bleh", x, self.up_proj)
        return torch.einsum("bleh,ehd->bld", F.gelu(hidden), self.down_proj)


class CastedLinear(nn.Linear):
    """A linear layer that computes in the dtype of its input, as nanoGPT's relatives have."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.linear(input, self.weight.to(input.dtype))


class Standardised(nn.Conv2d):
    """A convolution with standardised weights."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        flat = self.weight.flatten(1)
        weight = F.layer_norm(flat, flat.shape[1:]).view_as(self.weight)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class Causal(nn.Conv1d):
    """A causal convolution."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(F.pad(input, (self.kernel_size[0] - 1, 0)))


class Tied(nn.Module):
    """Two layers that share a weight, as they are or one transposed."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.transposed = transposed
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.one(x).relu()
        return hidden @ self.two.weight if self.transposed else self.two(hidden)


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(16, 16)
        self.two = self.one

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).relu())


class WeightTied(nn.Module):
    """An embedding and a head that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(16, 16), nn.Linear(16, 16, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.embed(x.argmax(-1)))


class Reads(nn.Module):
    """A layer whose weight is read and not called."""

    def __init__(self, read: Callable[[Tensor, nn.Linear], Tensor]) -> None:
        super().__init__()
        self.inner, self.read = nn.Linear(16, 16), read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x, self.inner)


class Holder(nn.Module):
    """Parameters in a list or a dict of parameters."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        several = [parameter(16, 16) for _ in range(2)]
        self.held: Any = nn.ParameterDict({"a": several[0], "b": several[1]}) if named else nn.ParameterList(several)

    def forward(self, x: Tensor) -> Tensor:
        one, two = (self.held["a"], self.held["b"]) if isinstance(self.held, nn.ParameterDict) else self.held
        return (x @ one).relu() @ two


class Positions(nn.Module):
    """Learned positions, and sines in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = parameter(1, 6, 16)
        self.register_buffer("sines", torch.arange(96).view(1, 6, 16).sin())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.learned + self.sines


class Caches(nn.Module):
    """A layer that keeps what it computed for a length in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.mask = nn.Linear(16, 16), None

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None or self.mask.shape[0] != x.shape[1]:
            self.mask = torch.ones(x.shape[1], x.shape[1]).tril()
        return self.mask @ self.inner(x)


class Hyper(nn.Module):
    """A layer whose weights another layer computes."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(16, 256)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.make(x.mean(1)).view(-1, 16, 16))


class Spline(nn.Module):
    """A layer of splines, as in Kolmogorov-Arnold networks: a tensor of three dimensions, named as nobody else does."""

    def __init__(self) -> None:
        super().__init__()
        self.coef = parameter(16, 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        basis = torch.stack([(x - centre).square().neg().exp() for centre in (-2, -1, 0, 1, 2)], -1)
        return torch.einsum("blik,oik->blo", basis, self.coef)


class Spectral(nn.Module):
    """A layer of Fourier neural operators: complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(16, 16, 3, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.einsum("bik,iok->bok", torch.fft.rfft(x.mT)[..., :3], self.weights), 6).mT


class StateSpace(nn.Module):
    """A diagonal state space with a matrix of decays, of rows that are all alike."""

    def __init__(self) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.arange(1.0, 5.0).log().repeat(16, 1))
        self.inner = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, c = self.inner(x).chunk(2, -1)
        state, found = torch.zeros(len(x), 16, 4), []
        for at in range(x.shape[1]):
            state = state * (-self.A_log.exp()).exp() + x[:, at, :, None] * b[:, at, None]
            found.append((state * c[:, at, None]).sum(-1))
        return torch.stack(found, 1)


class Named(nn.Module):
    """A module with attributes of the names that an adapter needs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.lora_A = parameter(16, 16), parameter(2, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT + (x @ self.lora_A.mT).sum(-1, keepdim=True)


class Listed(nn.Module):
    """A tensor in a plain list, which no state_dict holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.factors = nn.Linear(16, 16), [torch.randn(16)]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.factors[0]


class Kept:
    """An object that is no module and keeps one."""

    def __init__(self) -> None:
        self.inner = nn.Linear(16, 16)


class Hides(nn.Module):
    """A layer in a plain list, in an object or in a closure, which no state_dict holds."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.inner, layer = nn.Linear(16, 16), nn.Linear(16, 16)
        self.hidden: Any = {"list": [[layer]], "object": Kept(), "closure": lambda x: layer(x)}[where]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden
        run = hidden[0][0] if isinstance(hidden, list) else getattr(hidden, "inner", hidden)
        return run(self.inner(x))  # type: ignore[no-any-return]


class Extra(nn.Linear):
    """A layer with extra state in its state_dict."""

    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class OwnState(nn.Linear):
    """A layer that saves its state in its own way."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)


class Symmetric(nn.Module):
    """A parametrization of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


class Odd(nn.Module):
    """Parameters of one element, of none, in float64 and bfloat16, not contiguous, expanded, and frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.single = nn.Parameter(torch.tensor([1.5])), nn.Parameter(torch.tensor(0.5))
        self.none = nn.Parameter(torch.empty(0, 16))
        self.wide = nn.Parameter(torch.randn(16, 16, dtype=torch.float64) / 4)
        self.narrow = nn.Parameter((torch.randn(16, 16) / 4).bfloat16())
        self.turned = nn.Parameter((torch.randn(16, 16) / 4).t())
        self.frozen = nn.Parameter(torch.randn(16, 16) / 4, requires_grad=False)
        self.register_parameter("absent", None)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.cat([x @ self.turned, self.none.expand(2, 0, 16)], 1) * self.one
        hidden = (hidden.double() @ self.wide).float().relu()
        return (hidden.bfloat16() @ self.narrow).float() @ self.frozen + self.single


class TwoNames(nn.Module):
    """One parameter under two names of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = parameter(16, 16)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.first).relu() @ self.second.mT


class Groups(nn.Module):
    """Layers of experts in a list, lists of parameters in a dict, and parameters in a list in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([BatchedExperts(), BatchedExperts()])
        self.named = nn.ModuleDict({"a": nn.ParameterList([parameter(16, 16)]), "b": nn.ParameterList()})
        self.nested = nn.ModuleList([nn.ParameterList([parameter(16, 16), parameter(16)])])
        self.mapped = nn.ParameterDict({"x": parameter(16, 16)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        inner: Any = self.nested[0]
        return x @ self.named["a"][0] @ inner[0] * inner[1] @ self.mapped["x"]  # type: ignore[index]


class Quantised(nn.Module):
    """A layer of integers with scales, as libraries for quantised models have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randint(-127, 128, (16, 16), dtype=torch.int8))
        self.scales = nn.Parameter(torch.full((16, 1), 0.01))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.codes * self.scales)


class Rotates(nn.Module):
    """Rotary positions as complex numbers, in no checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)
        angles = torch.outer(torch.arange(6.0), 0.5 ** torch.arange(8.0))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(self.inner(x).unflatten(-1, (8, 2)))
        return torch.view_as_real(pairs * self.turns).flatten(-2)


class Doubled(nn.Module):
    """A property called weight, computed from a parameter of another name."""

    def __init__(self) -> None:
        super().__init__()
        self.base = parameter(16, 16)

    @property
    def weight(self) -> Tensor:
        return 2 * self.base

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Adapted(nn.Linear):
    """A layer that has low-rank factors itself, under the names of LoRA's paper."""

    def __init__(self) -> None:
        super().__init__(16, 16)
        self.A, self.B = parameter(2, 16), parameter(16, 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) + input @ self.A.mT @ self.B.mT


class Looks(nn.Module):
    """Code that looks at its weight's memory, shape and dtype before it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = parameter(4, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.gate_up_proj
        assert weight.data_ptr() % 2 == 0 and weight.is_contiguous() and weight.dtype == x.dtype
        assert weight.stride() == (256, 16, 1) and weight.numel() == 1024
        out = torch.zeros_like(x)
        for one in weight.unbind(0):
            out = out + x @ one
        return out + sum(x @ weight.select(0, at) for at in range(2)) + x @ weight[2, :, :] + x @ weight.sum(0)


class Stepwise(nn.Module):
    """A recurrent loop of one's own over raw matrices, with a state in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.onward = parameter(16, 16), parameter(16, 16)
        self.register_buffer("start", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        state, found = self.start.expand(len(x), 16), []
        for one in x.unbind(1):
            state = torch.tanh(one @ self.inward + state @ self.onward)
            found.append(state)
        return torch.stack(found, 1)


def normed(tied: bool = False) -> nn.Module:
    """Two layers with the former weight_norm; tied, they share the numbers behind their weights."""
    layers = [torch.nn.utils.weight_norm(nn.Linear(16, 16)) for _ in range(2)]
    if tied:
        layers[1].weight_v, layers[1].weight_g = layers[0].weight_v, layers[0].weight_g
    return nn.Sequential(*layers)


def own(module: nn.Module) -> nn.Module:
    """A layer with that parametrization."""
    parametrize.register_parametrization(module, "weight", Symmetric())
    return module


def recurrent(kind: type[nn.RNNBase], size: int = 16, **options: Any) -> Callable[[], nn.Module]:
    """A recurrent layer of inputs of width 16."""
    return lambda: kind(16, size, batch_first=True, **options)


def coder(decodes: bool = False, **options: Any) -> Callable[[], nn.Module]:
    """A layer of a transformer."""
    kind = nn.TransformerDecoderLayer if decodes else nn.TransformerEncoderLayer
    return lambda: kind(16, 2, 24, dropout=0.0, batch_first=True, **options)


def attention(**options: Any) -> Callable[[], nn.Module]:
    """torch's attention of width 16."""
    return lambda: nn.MultiheadAttention(16, 2, batch_first=True, **options)


MODULES: dict[str, tuple[Callable[[], nn.Module], Run]] = {
    "Linear": (lambda: nn.Linear(16, 16), call),
    "Linear without bias": (lambda: nn.Linear(16, 16, bias=False), call),
    "Linear, a gate": (lambda: nn.Linear(16, 1), lambda m, x: x * m(x).sigmoid()),
    "LazyLinear, run once": (lambda: nn.LazyLinear(16), call),
    "Bilinear": (lambda: nn.Bilinear(16, 16, 16), lambda m, x: m(x, x.flip(1))),
    "Conv1d": (lambda: nn.Conv1d(16, 16, 3, padding=1), channels),
    "Conv1d, depthwise": (lambda: nn.Conv1d(16, 16, 3, padding=1, groups=16), channels),
    "Conv1d, reflected": (lambda: nn.Conv1d(16, 16, 3, padding=1, padding_mode="reflect"), channels),
    "Conv2d": (lambda: nn.Conv2d(16, 16, 3, padding=1), picture),
    "Conv2d, grouped": (lambda: nn.Conv2d(16, 16, 3, padding=1, groups=4), picture),
    "Conv2d, circular": (lambda: nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"), picture),
    "Conv2d, same, dilated": (lambda: nn.Conv2d(16, 16, 3, padding="same", dilation=2), picture),
    "Conv2d, 1 by 1": (lambda: nn.Conv2d(16, 16, 1), picture),
    "Conv3d": (lambda: nn.Conv3d(16, 16, 3, padding=1), volume),
    "Conv3d, grouped": (lambda: nn.Conv3d(16, 16, 3, padding=1, groups=2), volume),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(16, 16, 3), channels),
    "ConvTranspose1d, grouped": (lambda: nn.ConvTranspose1d(16, 16, 3, groups=2), channels),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(16, 16, 2, stride=2), picture),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(16, 16, 2, stride=2), volume),
    "RNN": (recurrent(nn.RNN), first),
    "LSTM": (recurrent(nn.LSTM), first),
    "LSTM, two layers": (recurrent(nn.LSTM, num_layers=2), first),
    "LSTM, both directions": (recurrent(nn.LSTM, size=8, bidirectional=True), first),
    "LSTM, projected": (recurrent(nn.LSTM, size=24, proj_size=16), first),
    "GRU": (recurrent(nn.GRU), first),
    "GRU, two layers, both directions": (recurrent(nn.GRU, size=8, num_layers=2, bidirectional=True), first),
    "RNNCell": (lambda: nn.RNNCell(16, 16), step_by_step),
    "LSTMCell": (lambda: nn.LSTMCell(16, 16), step_by_step),
    "GRUCell": (lambda: nn.GRUCell(16, 16), step_by_step),
    "MultiheadAttention": (attention(), itself),
    "MultiheadAttention without bias": (attention(bias=False), itself),
    "MultiheadAttention, other widths": (attention(kdim=8, vdim=8), lambda m, x: m(x, x[..., :8], x[..., :8])[0]),
    "MultiheadAttention, more keys": (attention(add_bias_kv=True, add_zero_attn=True), itself),
    "TransformerEncoderLayer": (coder(), call),
    "TransformerEncoderLayer, norm first": (coder(norm_first=True, activation="gelu"), call),
    "TransformerDecoderLayer": (coder(decodes=True), both),
    "TransformerEncoder": (lambda: nn.TransformerEncoder(coder()(), 2), call),
    "Transformer": (lambda: nn.Transformer(16, 2, 1, 1, 24, dropout=0.0, batch_first=True), both),
    "Embedding": (lambda: nn.Embedding(16, 16), tokens),
    "Embedding, padded": (lambda: nn.Embedding(16, 16, padding_idx=0), tokens),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(16, 16), bags),
    "EmbeddingBag, sums": (lambda: nn.EmbeddingBag(16, 16, mode="sum"), bags),
    "EmbeddingBag, largest": (lambda: nn.EmbeddingBag(16, 16, mode="max"), bags),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(16), channels),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(16), picture),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(16, affine=True), channels),
    "GroupNorm": (lambda: nn.GroupNorm(4, 16), channels),
    "LayerNorm": (lambda: nn.LayerNorm(16), call),
    "RMSNorm": (lambda: nn.RMSNorm(16), call),
    "PReLU": (lambda: nn.PReLU(16), channels),
    "AdaptiveLogSoftmaxWithLoss": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 16, [8], div_value=2.0),
        lambda m, x: m.log_prob(x.flatten(0, 1)).view(x.shape),
    ),
    "Sequential": (lambda: nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)), call),
    "ModuleDict": (lambda: nn.ModuleDict({"a": nn.Linear(16, 16)}), lambda m, x: m["a"](x)),
    "ModuleList": (lambda: nn.ModuleList([nn.Linear(16, 16)]), lambda m, x: m[0](x)),
    "ParameterList": (lambda: Holder(False), call),
    "ParameterDict": (lambda: Holder(True), call),
    "a raw matrix": (lambda: Raw(lambda x, w: x @ w, matrix=(16, 16)), call),
    "a raw matrix called weight": (lambda: Matmul(16, 16), call),
    "a raw batch of matrices": (lambda: Raw(lambda x, w: torch.einsum("bld,hde->ble", x, w), w=(2, 16, 16)), call),
    "a raw batch called weight": (lambda: Matmul(2, 16, 16), call),
    "a raw vector": (lambda: Raw(lambda x, s: x * s, scale=(16,)), call),
    "four dimensions": (lambda: Raw(lambda x, w: torch.einsum("bld,hkde->ble", x, w), w=(2, 3, 16, 16)), call),
    "experts": (Experts, call),
    "experts, inputs first": (lambda: Experts(is_transposed=True), call),
    "experts, all at once": (BatchedExperts, call),
    "a linear layer that casts": (lambda: CastedLinear(16, 16, bias=False), call),
    "standardised weights": (lambda: Standardised(16, 16, 3, padding=1), picture),
    "a causal convolution": (lambda: Causal(16, 16, 3), channels),
    "tied layers": (lambda: Tied(False), call),
    "tied layers, one transposed": (lambda: Tied(True), call),
    "one layer under two names": (Twice, call),
    "an embedding and its head": (WeightTied, call),
    "a weight read by F.linear": (lambda: Reads(lambda x, m: F.linear(x, m.weight, m.bias)), call),
    "a weight read transposed": (lambda: Reads(lambda x, m: x @ m.weight.t() + m.bias), call),
    "a weight read by rows": (lambda: Reads(lambda x, m: F.linear(x, m.weight[:8]).repeat(1, 1, 2)), call),
    "a weight read by einsum": (lambda: Reads(lambda x, m: torch.einsum("bld,od->blo", x, m.weight)), call),
    "a weight called and read": (lambda: Reads(lambda x, m: m(x).relu() @ m.weight), call),
    "a weight's norm in the loss": (lambda: Reads(lambda x, m: m(x) / m.weight.norm()), call),
    "a checkpointed layer": (
        lambda: nn.Linear(16, 16),
        lambda m, x: torch.utils.checkpoint.checkpoint(m, x, use_reentrant=False),
    ),
    "learned positions": (Positions, call),
    "a cache": (Caches, call),
    "weights made by a layer": (Hyper, call),
    "splines": (Spline, call),
    "a state space": (StateSpace, call),
    "names of an adapter": (Named, call),
    "extra state": (lambda: Extra(16, 16), call),
    "its own state": (lambda: OwnState(16, 16), call),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(16, 16)), call),
    "weight_norm of a convolution": (lambda: parametrizations.weight_norm(nn.Conv1d(16, 16, 3, padding=1)), channels),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(16, 16)), call),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(16, 16)), call),
    "a parametrization of one's own": (lambda: own(nn.Linear(16, 16)), call),
    "odd parameters": (Odd, call),
    "one parameter under two names": (TwoNames, call),
    "experts and parameters in lists": (Groups, call),
    "a quantised layer": (Quantised, call),
    "a complex buffer": (Rotates, call),
    "a property called weight": (Doubled, call),
    "a layer with factors of its own": (Adapted, call),
    "a look at the memory": (Looks, call),
    "a loop of one's own": (Stepwise, call),
    "the former weight_norm": (normed, call),
    "the former weight_norm, tied": (lambda: normed(tied=True), call),
    "the former weight_norm of an LSTM": (
        lambda: torch.nn.utils.weight_norm(nn.LSTM(16, 16, batch_first=True), "weight_hh_l0"),
        first,
    ),
    "spectral_norm, transposed": (lambda: parametrizations.spectral_norm(nn.ConvTranspose1d(16, 16, 3)), channels),
    "ConvTranspose2d, grouped, padded": (
        lambda: nn.ConvTranspose2d(16, 16, 3, stride=2, output_padding=1, groups=4, dilation=2),
        picture,
    ),
    "five dimensions": (
        lambda: Raw(lambda x, w: torch.einsum("bld,jhkde->ble", x, w), w=(2, 1, 3, 16, 16)),
        call,
    ),
    "bags with weights": (
        lambda: nn.EmbeddingBag(16, 16, mode="sum"),
        lambda m, x: x + m(x.argmax(-1), per_sample_weights=x.amax(-1))[:, None],
    ),
    "a layer in a list": (lambda: Hides("list"), call),
    "a layer in an object": (lambda: Hides("object"), call),
    "a layer in a closure": (lambda: Hides("closure"), call),
    "a scripted layer": (lambda: torch.jit.script(nn.Linear(16, 16)), call),
    "a tensor in a list": (Listed, call),
    "complex weights": (Spectral, call),
}

REFUSED = {
    "a tensor in a list": "cannot compute middle.factors[0] without weights",
    "complex weights": "middle.weights is torch.complex64, which the format does not support",
    "a layer in a list": "middle.hidden[0][0].weight, which no checkpoint holds",
    "a layer in an object": "middle.hidden.inner.weight, which no checkpoint holds",
    "a layer in a closure": "middle.hidden.layer.weight, which no checkpoint holds",
    "a scripted layer": "middle is a scripted module, whose parameters cannot be replaced",
    "extra state": "a pack cannot hold middle._extra_state of the state_dict",
    "orthogonal": "Tensor.item() cannot be called on meta tensors",
}
"""What lottapack refuses, and how the error begins. torch itself cannot build an orthogonal layer on meta."""


class Own(nn.Module):
    """A module of MODULES between two linear layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        make, self.run = MODULES[name]
        self.first, self.middle, self.last = nn.Linear(8, 16), make(), nn.Linear(16, 4)
        if any(nn.parameter.is_lazy(one) for one in self.middle.parameters()):
            self.run(self.middle, torch.zeros(2, 6, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.run(self.middle, self.first(x)))
