"""How many ranks does a task need? A training function for ``lottapack study``, on scikit-learn's handwritten digits.

    cd examples
    lottapack study study_digits:train --tolerance 0.5 --record build/digits.jsonl --plot ranks.svg

Scores are per cent of right answers, so the tolerance is half a point. Chance is 10 %.
"""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

EPOCHS, BATCH = 15, 64
RATES = {"full": 3e-3, "adapters": 1e-2}
"""What ``python examples/paper/measure.py digits`` finds good for each side, of 1e-3, 3e-3, 1e-2 and 3e-2."""


@cache
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train on, then those to test with: every fifth."""
    bunch = load_digits()
    images, labels = torch.from_numpy(bunch.data).float() / 16, torch.from_numpy(bunch.target).long()
    test = torch.arange(len(labels)) % 5 == 0
    return images[~test], labels[~test], images[test], labels[test]


def build(seed: int) -> nn.Module:  # noqa: ARG001 - study() has set torch's seed
    """The plain model."""
    return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def train(model: nn.Module, seed: int, rank: int | None) -> float:
    """Train a model, and return its right answers on the test images in per cent."""
    torch.set_num_threads(1)  # small products: threads would wait for each other
    images, labels, test_images, test_labels = data()
    rate = RATES["full" if rank is None else "adapters"]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(labels) // BATCH))
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels), generator=order).split(BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images[batch]), labels[batch]))
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return 100 * float((model(test_images).argmax(1) == test_labels).float().mean())
