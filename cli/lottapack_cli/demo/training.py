"""The demo's model and how it is trained."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import lottapack
from lottapack_cli.demo.data import Digits

SEED, RANK, EPOCHS, BATCH = 42, 8, 15, 64
_LEARNING_RATE = 3e-3

Report = Callable[[int, float, float], None]
"""Called with the number of epochs done, the mean loss, and the accuracy on the training images."""


def build() -> nn.Module:
    """Return a classifier with two wide random layers; their adapters, the biases and the head are trained."""
    model = nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return lottapack.scaffold(model, seed=SEED, rank=RANK)


def train(model: nn.Module, digits: Digits, report: Report) -> None:
    """Train in place with AdamW and a cosine schedule."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=_LEARNING_RATE, weight_decay=0.01)
    count = len(digits.labels)
    steps = EPOCHS * -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.Generator("cpu").manual_seed(SEED)
    model.train()
    for epoch in range(EPOCHS):
        loss_sum, correct = 0.0, 0
        for batch in torch.split(torch.randperm(count, generator=order, dtype=torch.int64, device="cpu"), BATCH):
            logits = model(digits.images[batch])
            loss = F.cross_entropy(logits, digits.labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(batch)
            correct += int((logits.argmax(1) == digits.labels[batch]).sum())
        report(epoch + 1, loss_sum / count, correct / count)
    model.eval()
