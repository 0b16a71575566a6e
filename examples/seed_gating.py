"""Seed gating: one adapter, three scaffolds, three tasks (LottaLoRA, arXiv 2604.08749).

The tasks share their inputs and contradict each other: each gives the ten kinds of input other labels. All learned
values are shared. Only the random backbone tells the tasks apart, which costs one seed a task. With a seed that was
not trained on, the model's accuracy is at chance.

    python examples/seed_gating.py
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import lottapack

CLASSES, FEATURES, WIDTH, RANK, STEPS, BATCH = 10, 32, 256, 8, 150, 128
SEEDS = {"default": 1, "task-b": 2, "task-c": 3}
UNTRAINED = 4
SHIFT = {"default": 0, "task-b": 3, "task-c": 7}  # label of kind k in a task: (k + shift) % 10


def made(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Make inputs of ten kinds, noise around ten points, shape (count, 32), and their kinds, shape (count,)."""
    centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(CLASSES, (count,), generator=generator)
    return centres[kinds] + 0.7 * torch.randn(count, FEATURES, generator=generator), kinds


def labels(kinds: Tensor, task: str) -> Tensor:
    """Return a task's labels of these kinds."""
    return (kinds + SHIFT[task]) % CLASSES


def build(seed: int, scaffolds: dict[str, int]) -> nn.Module:
    """Build a classifier whose three layers, the head included, are random: only biases are trained in full."""
    model = nn.Sequential(
        nn.Linear(FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)
    )
    return lottapack.scaffold(model, seed=seed, scaffolds=scaffolds, rank=RANK, targets="*")


def train(model: nn.Module) -> None:
    """Train; each step takes one batch of each task, each on its own scaffold."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    inputs, kinds = made(STEPS * BATCH, seed=1)
    for x, kind in zip(inputs.split(BATCH), kinds.split(BATCH), strict=True):
        optimizer.zero_grad()
        for task in SEEDS:
            lottapack.switch(model, task)
            torch.autograd.backward(F.cross_entropy(model(x), labels(kind, task)))
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, task: str) -> float:
    """Return the model's accuracy in a task on new inputs."""
    inputs, kinds = made(2000, seed=2)
    return float((model(inputs).argmax(1) == labels(kinds, task)).float().mean())


def run(folder: Path) -> dict[str, dict[str, float]]:
    """Train, pack, load; return the accuracy by scaffold and task. ``untrained`` is a seed that training never saw."""
    first, *others = SEEDS.items()
    model = build(first[1], dict(others))
    train(model)
    pack = folder / "gated.lotta.safetensors"
    lottapack.pack(model, pack)
    loaded = lottapack.load(pack)
    found = {}
    for scaffold in SEEDS:
        with lottapack.switch(loaded, scaffold):
            found[scaffold] = {task: accuracy(loaded, task) for task in SEEDS}
    stranger = build(UNTRAINED, {})
    learned = {name: p for name, p in loaded.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in stranger.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(learned[name])
    found["untrained"] = {task: accuracy(stranger, task) for task in SEEDS}
    return found


def main() -> None:
    """Print the accuracies."""
    torch.set_num_threads(1)  # small products: threads would wait for each other
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder))
        size = (Path(folder) / "gated.lotta.safetensors").stat().st_size
    print("accuracy on          " + "".join(f"{task:>10}" for task in SEEDS))
    for scaffold, row in found.items():
        print(f"scaffold {scaffold:<12}" + "".join(f"{value:>10.2%}" for value in row.values()))
    print(f"one pack of {size:,} bytes; {len(SEEDS)} packs would hold the adapters {len(SEEDS)} times")


if __name__ == "__main__":
    main()
