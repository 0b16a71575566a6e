"""PhysioNet 2012: a closed-form continuous-time network (``ncps``) with 256 units."""

import torch
from paper_run import Case, main
from torch import Tensor, nn

import lottapack

MEASURES, HOURS, UNITS = 41, 12, 256


def build(layers: int | None = None) -> nn.Module:
    # The sizes of the authors of CfC for this task: a backbone of two layers with 64 units; 41 measures and 41 masks.
    return lottapack.build(
        "python",
        "ncps.torch:CfC",
        input_size=2 * MEASURES,
        units=UNITS,
        proj_size=2,
        return_sequences=False,
        activation="silu",
        backbone_units=64,
        backbone_layers=layers or 2,
        backbone_dropout=0.2,
    )


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Make patients with irregular and missing measurements; the first measure decides who dies."""
    values = torch.randn(32, HOURS, MEASURES, generator=generator)
    mask = (torch.rand(32, HOURS, MEASURES, generator=generator) < 0.3).float()
    # The library multiplies a step's gap with each unit, so it expects one gap a unit.
    gaps = torch.rand(32, HOURS, 1, generator=generator).expand(-1, -1, UNITS)
    died = (values[:, :, 0].mean(1) > 0).long()
    logits, _ = model(torch.cat([values * mask, mask], 2), timespans=gaps)
    return nn.functional.cross_entropy(logits, died)


CASES = [
    Case(
        name=f"CfC h=256, rank {rank}",
        build=build,
        scaffold={"rank": rank, "train": ["fc", "biases"]},
        loss=loss,
        paper_total="92,930",
        paper_percent=percent,
        note="two backbone layers of 64 units and 82 inputs give the paper's count; trained are adapters, betas, "
        "biases and the last layer.",
        allow=("ncps",),
    )
    for rank, percent in ((1, 3.7), (2, 5.7))
]

if __name__ == "__main__":
    main(CASES)
