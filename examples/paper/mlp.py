"""MNIST: a perceptron 784-512-256-128-64-10. The hidden layers get adapters; the last is trained in full."""

from collections import OrderedDict
from itertools import pairwise

import torch
from paper_run import Case, main
from torch import Tensor, nn

SIZES = (784, 512, 256, 128, 64)


def build(layers: int | None = None) -> nn.Module:
    sizes = SIZES[: layers and layers + 1]
    parts: list[tuple[str, nn.Module]] = []
    for number, (d_in, d_out) in enumerate(pairwise(sizes), 1):
        parts += [(f"hidden{number}", nn.Linear(d_in, d_out)), (f"relu{number}", nn.ReLU())]
    return nn.Sequential(OrderedDict([*parts, ("head", nn.Linear(sizes[-1], 10))]))


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    labels = torch.randint(10, (128,), generator=generator)
    images = torch.rand(128, 784, generator=generator)
    images[:, :10] += nn.functional.one_hot(labels, 10)  # something to learn
    return nn.functional.cross_entropy(model(images), labels)


NOTE = (
    "counted as the paper does: adapters, betas and the last layer; biases of hidden layers stay 0. "
    "At rank 8 this is 3.79 %, as the same rule gives its 7.46 and 14.8 %: its 3.65 % does not follow from it."
)
CASES = [
    Case(
        name=f"MLP 512-256-128-64, rank {rank}",
        build=build,
        scaffold={"rank": rank, "alpha": 1.0, "train": "head"},
        loss=loss,
        paper_total="575,050",
        paper_percent=percent,
        note=NOTE,
    )
    for rank, percent in ((8, 3.65), (16, 7.46), (32, 14.8))
]

if __name__ == "__main__":
    main(CASES)
