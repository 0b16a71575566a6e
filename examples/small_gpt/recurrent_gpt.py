"""A GPT over bytes that reuses its few blocks several times and ties its head to its embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

BYTES = 256


class Linear(nn.Linear):
    """A linear map without bias that computes in the dtype of its inputs, whatever the dtype of its weight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (..., inputs). Returns: shape (..., outputs)."""
        return F.linear(x, self.weight.to(x.dtype))


class Block(nn.Module):
    """Causal attention and a feed-forward layer."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.queries, self.keys, self.values, self.mix = (Linear(width, width) for _ in range(4))
        self.up, self.down = Linear(width, hidden), Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (batch, length, width). Returns: the same shape."""
        normed = self.attention_norm(x)
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.queries, self.keys, self.values)
        )
        q, k = rotated(q), rotated(k)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.feed_norm(x))).square())


def rotated(x: Tensor) -> Tensor:
    """Rotary positions. Args: x, shape (batch, heads, length, size). Returns: the same shape."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * 10_000 ** (
        -torch.arange(half, device=x.device) / half
    )
    cosine, sine = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


class RecurrentGPT(nn.Module):
    """``blocks`` blocks, run in turn, ``passes`` times over."""

    def __init__(self, width: int = 128, heads: int = 4, hidden: int = 384, blocks: int = 2, passes: int = 3) -> None:
        super().__init__()
        self.passes = passes
        self.embedding = nn.Embedding(BYTES, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(blocks))
        self.norm = nn.RMSNorm(width)
        self.head = Linear(width, BYTES)
        self.head.weight = self.embedding.weight

    def forward(self, text: Tensor) -> Tensor:
        """Args: text, bytes, shape (batch, length), int64. Returns: logits, shape (batch, length, 256)."""
        x = self.embedding(text)
        for _ in range(self.passes):
            for block in self.blocks:
                x = block(x)
        return self.head(self.norm(x))
