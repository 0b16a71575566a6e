"""Classes that packs of this folder name. They never change: released packs are built from them."""

import torch
from torch import Tensor, nn


class Experts(nn.Module):
    """Experts as two parameters of three dimensions, and a router."""

    def __init__(self, experts: int, width: int, inner: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.up = nn.Parameter(torch.empty(experts, inner, width))
        self.down = nn.Parameter(torch.empty(experts, width, inner))
        for weight in (self.up, self.down):
            nn.init.normal_(weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(torch.einsum("eiw,bw->bei", self.up, x))
        return torch.einsum("ewi,bei,be->bw", self.down, inner, self.router(x).softmax(-1))


class Counters(nn.Module):
    """A layer, and a buffer of every dtype that only stored tensors have; some have one value."""

    def __init__(self, width: int = 4, options: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.body = nn.Linear(width, width)
        self.options = options
        for dtype in (torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            self.register_buffer(str(dtype).removeprefix("torch."), torch.arange(width).to(dtype))
        self.register_buffer("mask", torch.arange(width) % 2 == 0)
        self.register_buffer("constant", torch.full((2,), 7, dtype=torch.int64))
        self.register_buffer("no", torch.zeros(2, dtype=torch.bool))
        self.register_buffer("yes", torch.ones(2, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
