"""Compare accuracy and size: the demo's digit classifier, trained in full and as adapters on random weights.

``python benchmarks/bench_accuracy.py [--seeds N] [--json]``

Both sides choose their learning rate on the same validation images, which are used for nothing else. Each seed draws
another model and another order of the data. Takes some minutes.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F  # noqa: N812

import lottapack
from lottapack_cli.demo.data import load_digits

RATES = (1e-3, 3e-3, 1e-2)
EPOCHS, BATCH = 15, 64
SIDES = {"full training": None, "rank 2": 2, "rank 8": 8, "rank 32": 32}


def build(rank: int | None, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    return model if rank is None else lottapack.scaffold(model, seed=seed, rank=rank)


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, rate: float, seed: int) -> None:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(labels) // BATCH))
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels), generator=order), BATCH):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((model(images).argmax(1) == labels).float().mean())


def measured(rank: int | None, seeds: int) -> dict[str, float]:
    """Measure one side: mean and deviation of the test accuracy, learning rate, bytes and load time of its file."""
    digits, tests = load_digits()
    held = len(digits.labels) // 5
    tried = {}
    for rate in RATES:
        scores = []
        for seed in range(seeds):
            model = build(rank, seed)
            train(model, digits.images[held:], digits.labels[held:], rate, seed)
            scores.append(accuracy(model, digits.images[:held], digits.labels[:held]))
        tried[rate] = statistics.mean(scores)
    rate = max(tried, key=lambda one: tried[one])
    scores = []
    for seed in range(seeds):
        model = build(rank, seed)
        train(model, digits.images, digits.labels, rate, seed)
        scores.append(accuracy(model, tests.images, tests.labels))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lotta.safetensors"
        if rank is None:
            save_file(model.state_dict(), path)
        else:
            lottapack.pack(model, path)
        rounds = []
        for _ in range(9):
            begin = time.perf_counter()
            if rank is not None:
                lottapack.load(path)
            rounds.append(time.perf_counter() - begin)
        size = path.stat().st_size
    found = {"accuracy": statistics.mean(scores), "deviation": statistics.stdev(scores), "rate": rate, "bytes": size}
    return found if rank is None else {**found, "load_s": statistics.median(rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    rows = {side: measured(rank, asked.seeds) for side, rank in SIDES.items()}
    if asked.json:
        print(json.dumps(rows))
        return
    for side, row in rows.items():
        load = f"{row['load_s'] * 1000:.0f} ms to load" if "load_s" in row else ""
        print(
            f"{side:<14} {row['accuracy']:.2f} +- {row['deviation']:.2f} %  {row['bytes']:>10,} bytes  "
            f"learning rate {row['rate']:g}  {load}"
        )


if __name__ == "__main__":
    main()
