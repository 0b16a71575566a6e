"""CIFAR-10: a plain convolutional network with 20 layers (ResNet-20 without shortcuts)."""

from collections import OrderedDict

import torch
from paper_run import Case, main
from torch import Tensor, nn


def build(layers: int | None = None) -> nn.Module:
    parts: list[tuple[str, nn.Module]] = []
    channels = 3
    for number, width in enumerate([16, *[16] * 6, *[32] * 6, *[64] * 6][:layers]):
        stride = 2 if width == 2 * channels else 1
        parts += [
            (f"conv{number}", nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)),
            (f"norm{number}", nn.BatchNorm2d(width)),
            (f"relu{number}", nn.ReLU()),
        ]
        channels = width
    parts += [("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten()), ("head", nn.Linear(channels, 10))]
    return nn.Sequential(OrderedDict(parts))


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    labels = torch.randint(10, (32,), generator=generator)
    images = torch.randn(32, 3, 32, 32, generator=generator)
    images[:, 0] += labels[:, None, None] / 5
    return nn.functional.cross_entropy(model(images), labels)


CASES = [
    Case(
        name="Plain-20 CNN, rank 16",
        build=build,
        scaffold={"rank": 16, "train": ["head", "norms"]},
        loss=loss,
        paper_total="269,722",
        paper_percent=38.3,
        note="the kernel is seen as (C_out, C_in * 9); trained are adapters, betas, norms and the last layer.",
    )
]

if __name__ == "__main__":
    main(CASES)
