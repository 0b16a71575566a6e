"""OGBN-Arxiv: a graph convolutional network of ``torch_geometric``, 3 layers of width 256."""

import torch
from paper_run import Case, main
from torch import Tensor, nn

import lottapack

SUBJECTS = 40


def build(layers: int | None = None) -> nn.Module:
    return lottapack.build(
        "python",
        "torch_geometric.nn:GCN",
        in_channels=128,
        hidden_channels=256,
        num_layers=layers or 3,
        out_channels=SUBJECTS,
        dropout=0.5,
        norm="BatchNorm",
    )


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Make 500 papers that cite five others each; the first features hold the subject."""
    papers = 500
    subjects = torch.randint(SUBJECTS, (papers,), generator=generator)
    x = torch.randn(papers, 128, generator=generator)
    x[:, :SUBJECTS] += 3 * nn.functional.one_hot(subjects, SUBJECTS)
    edges = torch.stack([torch.arange(papers).repeat(5), torch.randint(papers, (5 * papers,), generator=generator)])
    return nn.functional.cross_entropy(model(x, edges), subjects)


CASES = [
    Case(
        name="GCN 3x256, rank 32",
        build=build,
        scaffold={"rank": 32, "train": "norms"},
        loss=loss,
        paper_total="110,120",
        paper_percent=35.6,
        note="all three layers get adapters; trained beside them are betas and norms.",
        allow=("torch_geometric",),
    )
]

if __name__ == "__main__":
    main(CASES)
