"""OGBG-MolHIV: a graph isomorphism network, 5 layers of width 300, with OGB's encoders of atoms and bonds."""

import torch
from paper_models import ATOM, BOND
from paper_run import Case, main
from torch import Tensor, nn

import lottapack


def build(layers: int | None = None) -> nn.Module:
    return lottapack.build("python", "paper_models:MoleculeGIN", layers=layers or 5, width=300, tasks=1)


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Make molecules that are rings of 20 atoms; those with a large first feature are active."""
    molecules, size = 16, 20
    atoms = torch.stack([torch.randint(n, (molecules * size,), generator=generator) for n in ATOM], 1)
    here = torch.arange(molecules * size)
    there = here // size * size + (here + 1) % size
    edges = torch.cat([torch.stack([here, there]), torch.stack([there, here])], 1)
    bonds = torch.stack([torch.randint(n, (edges.shape[1],), generator=generator) for n in BOND], 1)
    active = (atoms[:, 0].view(molecules, size).float().mean(1) > 59).float()
    logits = model(atoms, edges, bonds, here // size)
    return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], active)


CASES = [
    Case(
        name="GIN 5x300, rank 16",
        build=build,
        scaffold={"rank": 16, "train": ["head", "norms", "embeddings", "rest"]},
        loss=loss,
        paper_total="1,863,906",
        paper_percent=10.9,
        note="one encoder of bonds for all layers and no norm inside their perceptrons give the paper's count; "
        "trained are adapters, betas, both encoders, norms, the epsilons and the last layer.",
        allow=("paper_models",),
    )
]

if __name__ == "__main__":
    main(CASES)
