"""Flowers-102: ViT-B/16. The paper adapts pre-trained weights and also reports a random backbone; here it is random."""

import torch
from paper_run import Case, main
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

CLASSES = 102


def build(layers: int | None = None) -> nn.Module:
    return ViTForImageClassification(ViTConfig(num_hidden_layers=layers or 12, num_labels=CLASSES))


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    labels = torch.randint(CLASSES, (2,), generator=generator)
    images = torch.randn(2, 3, 224, 224, generator=generator) + labels[:, None, None, None] / 50
    return nn.functional.cross_entropy(model(pixel_values=images).logits, labels)


CASES = [
    Case(
        name="ViT-B/16, rank 1",
        build=build,
        scaffold={"rank": 1, "train": ["classifier", "norms", "projection", "rest"]},
        loss=loss,
        paper_total="85.9M",
        paper_percent=1.19,
        note="trained beside the adapters are betas, norms, the head, the embedding of patches, positions and class.",
        large=True,
    )
]

if __name__ == "__main__":
    main(CASES)
