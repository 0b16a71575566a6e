"""Shared by the examples: scaffold, train a few steps, pack, verify, rebuild, compare every bit, count."""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import lottapack

SEED = 42


@dataclass(frozen=True)
class Case:
    """One model of the paper.

    ``build(layers)``: the model; ``layers`` is its depth, None for the paper's. ``scaffold``: arguments of
    lottapack.scaffold(). ``loss(model, generator)``: the loss on a new batch. ``paper_total`` and ``paper_percent``:
    parameters and trained share from the paper. ``left_out``: parameters that this share leaves out. ``note``: the
    reason for a difference. ``large``: tests build a shallow model instead.
    """

    name: str
    build: Callable[[int | None], nn.Module]
    scaffold: dict[str, Any]
    loss: Callable[[nn.Module, torch.Generator], Tensor]
    paper_total: str
    paper_percent: float
    note: str
    allow: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    large: bool = False


@dataclass(frozen=True)
class Row:
    """The result. ``percent`` is the trained share of ``counted_total``; both leave out what the paper leaves out."""

    name: str
    total: int
    paper_total: str
    trained: int
    counted_trained: int
    counted_total: int
    paper_percent: float
    pack_bytes: int
    losses: list[float] = field(repr=False)
    seconds: float
    note: str

    @property
    def percent(self) -> float:
        return 100 * self.counted_trained / self.counted_total


def counts(model: nn.Module, left_out: Iterable[str] = (), *, trained: bool = False) -> int:
    """Count parameters, tied ones once; with ``trained`` those that get a gradient."""
    skip = set(left_out)
    found = (p for name, p in model.named_parameters() if name not in skip and (p.requires_grad or not trained))
    return sum(parameter.numel() for parameter in found)


def run(case: Case, *, layers: int | None = None, steps: int = 3) -> Row:
    """Run the whole example. Raises AssertionError if a bit of the rebuilt model differs."""
    began = time.perf_counter()
    torch.manual_seed(SEED)
    model = case.build(layers)
    total, counted_total = counts(model), counts(model, case.left_out)
    lottapack.scaffold(model, seed=SEED, **case.scaffold)
    losses = train(model, case, steps)
    with TemporaryDirectory() as folder:
        packed = lottapack.pack(model, Path(folder) / "model.lotta.safetensors")
        checks = lottapack.verify(packed.path, allow=case.allow).checks
        assert all(check.status == "ok" for check in checks), [check for check in checks if check.status != "ok"]
        rebuilt = lottapack.load(packed.path, allow=case.allow)
    require_same(model.eval(), rebuilt, case)
    return Row(
        name=case.name,
        total=total,
        paper_total=case.paper_total,
        trained=counts(model, trained=True),
        counted_trained=counts(model, case.left_out, trained=True),
        counted_total=counted_total,
        paper_percent=case.paper_percent,
        pack_bytes=packed.size,
        losses=losses,
        seconds=time.perf_counter() - began,
        note=case.note,
    )


def train(model: nn.Module, case: Case, steps: int) -> list[float]:
    """Train in an ordinary loop; return the losses."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    made = torch.Generator().manual_seed(SEED)
    losses = []
    for _ in range(steps):
        loss = case.loss(model.train(), made)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def require_same(model: nn.Module, rebuilt: nn.Module, case: Case) -> None:
    """Check that all parameters, buffers, the backbone and the loss on a new batch have the same bits."""
    ours, theirs = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (model, rebuilt))
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(as_bytes(tensor), as_bytes(theirs[name])), name
    with torch.no_grad():
        first, second = (case.loss(m, torch.Generator().manual_seed(7)) for m in (model, rebuilt))
    assert torch.equal(as_bytes(first), as_bytes(second)), "the outputs differ"


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the bits of a tensor as integers."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def table(rows: Iterable[Row]) -> str:
    """Return the table as Markdown."""
    head = (
        "| model | parameters | in the paper | trained | % | in the paper | pack |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *map(line, rows)])


def line(row: Row) -> str:
    """Return one line of the table."""
    cells = [row.name, f"{row.total:,}", row.paper_total, f"{row.trained:,}", f"{row.percent:.4g}"]
    return f"| {' | '.join([*cells, f'{row.paper_percent:g}', f'{row.pack_bytes:,}'])} |"


def main(cases: Iterable[Case]) -> None:
    """Run an example from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a model's name; by default all of the file")
    parser.add_argument("--steps", type=int, default=3, help="training steps (default 3)")
    parser.add_argument("--json", action="store_true", help="print JSON, one model a line")
    options = parser.parse_args()
    rows = []
    for case in cases:
        if options.names and not any(name.lower() in case.name.lower() for name in options.names):
            continue
        rows.append(run(case, steps=options.steps))
        if options.json:
            print(json.dumps({**asdict(rows[-1]), "percent": rows[-1].percent}), flush=True)
    if not options.json:
        print(table(rows))
        print()
        for note in dict.fromkeys(row.note for row in rows):
            print(f"{', '.join(row.name for row in rows if row.note == note)}: {note}")
        print("Every value of every rebuilt model, and its output, has the bits of the trained one.")
