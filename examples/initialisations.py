"""Any initialisation works: the paper's families on a small task (LottaLoRA, arXiv 2604.08749, its second finding).

Each family is a distribution, a table that the pack carries where it is not built in, and a rule for its width. The
orthogonal one is a signed Hadamard matrix, which is not drawn element by element (spec/decisions/0050). Needs
scikit-learn, for its handwritten digits and SciPy's quantile functions.

    python examples/initialisations.py
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import lottapack

RANK, BATCH = 8, 64
Quantiles = Callable[[Any], Any]


def mixture(p: Any) -> Any:
    """Two normal distributions of one weight around -1 and 1, of deviation 1/2: the quantiles by bisection."""
    low, high = np.full_like(p, -8.0), np.full_like(p, 8.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = (stats.norm.cdf(middle, -1, 0.5) + stats.norm.cdf(middle, 1, 0.5)) / 2 < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def sparse(p: Any) -> Any:
    """Nine in ten are zero, the others normal."""
    tail = stats.norm.ppf(np.minimum(10 * np.minimum(p, 1 - p), 0.5))
    return np.where(p < 0.5, tail, -tail)


def quantised(bits: int) -> lottapack.rng.Table:
    """The normal distribution in 2**bits steps of one width from -3 to 3."""
    width = 6 / 2**bits
    return lottapack.table(
        lambda p: np.clip((np.floor(stats.norm.ppf(p) / width) + 0.5) * width, width / 2 - 3, 3 - width / 2), 16
    )


FAMILIES: dict[str, dict[str, Any]] = {
    "normal": {},
    "truncated normal": {"distribution": lottapack.table(stats.truncnorm(-2, 2).ppf)},
    "uniform": {"distribution": "uniform16"},
    "Kaiming normal": {"init": "kaiming"},
    "Kaiming uniform": {"distribution": "uniform16", "init": "kaiming"},
    "Xavier normal": {"init": "xavier"},
    "Xavier uniform": {"distribution": "uniform16", "init": "xavier"},
    "spectral radius 0.95": {"init": "spectral_radius"},
    "Cauchy": {"distribution": lottapack.table(stats.cauchy.ppf, bits=8)},
    "Laplace": {"distribution": lottapack.table(stats.laplace.ppf)},
    "Student t, 3": {"distribution": lottapack.table(stats.t(3).ppf)},
    "Gaussian mixture": {"distribution": lottapack.table(mixture)},
    "sparse, 90 % zero": {"distribution": lottapack.table(sparse)},
    "beta(2, 5), centred": {"distribution": lottapack.table(lambda p: stats.beta(2, 5).ppf(p) - 2 / 7)},
    "exponential, centred": {"distribution": lottapack.table(lambda p: stats.expon.ppf(p) - 1)},
    "quantised, 16 bits": {"distribution": quantised(16)},
    "quantised, 8 bits": {"distribution": quantised(8)},
    "quantised, 4 bits": {"distribution": quantised(4)},
    "quantised, 2 bits": {"distribution": quantised(2)},
    "binary": {"distribution": "sign1"},
    "orthogonal": {"distribution": "hadamard", "init": "orthonormal"},
}


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train on, then those to test on: every fifth."""
    found = load_digits()
    images, labels = torch.from_numpy(found.data).float() / 16, torch.from_numpy(found.target).long()
    test = torch.arange(len(labels)) % 5 == 0
    return images[~test], labels[~test], images[test], labels[test]


def build(seed: int, **family: Any) -> nn.Module:
    """The paper's MLP, 512-256-128-64, of a family."""
    widths = [64, 512, 256, 128, 64]
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.ReLU()]
    return lottapack.scaffold(nn.Sequential(*layers, nn.Linear(64, 10)), seed=seed, rank=RANK, **family)


def accuracy(seed: int, epochs: int, data: tuple[Tensor, Tensor, Tensor, Tensor], **family: Any) -> float:
    """Train a model and give its share of right answers on the test images."""
    images, labels, test_images, test_labels = data
    model = build(seed, **family)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    order = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=order).split(BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images[batch]), labels[batch]))
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((model(test_images).argmax(1) == test_labels).float().mean())


def run(seeds: int, epochs: int) -> dict[str, list[float]]:
    """By family, the accuracy for each seed."""
    data = digits()
    return {name: [accuracy(s, epochs, data, **family) for s in range(seeds)] for name, family in FAMILIES.items()}


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)  # small products: threads would wait for each other
    start = time.monotonic()
    found = run(seeds=3, epochs=15)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name:<22}{means[name]:>8.2%}   " + " ".join(f"{value:.2%}" for value in values))
    print(
        f"mean accuracies from {min(means.values()):.2%} to {max(means.values()):.2%}, {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
