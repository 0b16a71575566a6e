"""What measure.py runs: rows of runs, by section."""

from dataclasses import dataclass, field
from typing import Any

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
RANKS = (1, 2, 4, 8, 16, 32)
PAPER = {"alpha": 1.0, "dropout": 0.1, "train": "heads"}
"""The paper's recipe for its perceptron, as printed; its learning rate is 1e-3."""


@dataclass(frozen=True)
class Row:
    """A line of a table. It trains with each rate and the first ``tuning`` seeds, then the best rate with all seeds.

    The best is chosen on data that is neither trained on nor tested.
    """

    task: str
    label: str
    side: str = "lotta"
    rank: Any = 0
    rates: tuple[float, ...] = RATES
    seeds: int = 5
    tuning: int = 2
    more: dict[str, Any] = field(default_factory=dict)

    def run(self, rate: float, seed: int) -> dict[str, Any]:
        """Return one run."""
        return {"task": self.task, "side": self.side, "rank": self.rank, "lr": rate, "seed": seed, **self.more}


def _main(task: str) -> list[Row]:
    rows = [Row(task, "full training", "full")]
    return rows + [Row(task, f"rank {rank}", rank=rank) for rank in (8, 32)]


def _ranks(task: str) -> list[Row]:
    return [Row(task, f"rank {rank}", rank=rank, seeds=3, tuning=1) for rank in (1, 2, 4, 16)]


def _controls(task: str) -> list[Row]:
    more = {"static": {}, "zero": {"change": "zero"}}
    more |= {f"redrawn each {every}": {"change": f"redraw each {every}"} for every in ("epoch", "step")}
    return [
        Row(task, f"{name}, rank {rank}", rank=rank, rates=(1e-2,), seeds=3, more=change)
        for rank in (2, 8, 32)
        for name, change in more.items()
    ]


def _paper(task: str) -> list[Row]:
    recipe = {"scaffold": PAPER}
    return [Row(task, f"paper's recipe, rank {r}", rank=r, rates=(1e-3,), seeds=3, more=recipe) for r in RANKS]


def _lora(task: str) -> list[Row]:
    return [Row(task, f"plain LoRA, rank {rank}", "lora", rank, seeds=3, tuning=1) for rank in (1, 8)]


def _ablations(task: str) -> list[Row]:
    def row(label: str, rank: Any = 8, rate: float = 1e-2, **more: Any) -> Row:
        return Row(task, label, rank=rank, rates=(rate,), seeds=3, more=more)

    return [
        row("the paper's recipe", rate=1e-3, scaffold=PAPER),
        row("the paper's recipe, rate 1e-2", scaffold=PAPER),
        row("alpha = rank, no dropout"),
        row("rsLoRA (alpha = rank)", scaffold={"scaling": "rslora"}),
        row("rsLoRA (alpha = rank), rate 3e-3", rate=3e-3, scaffold={"scaling": "rslora"}),
        row("LoRA+: B learns 4 times as fast, rate 3e-3", rate=3e-3, ratio=4),
        row("beta fixed at 1", scaffold={"beta": 1.0}),
        row("A frozen, rank 22", rank=22, scaffold={"frozen_factor": "lora_A"}),
        row("rank by layer, from the first gradient", rank="by gradient"),
        row("kaiming", scaffold={"init": "kaiming"}),
        row("backbone halved", init="lecun, halved"),
        row("backbone doubled", init="lecun, doubled"),
        row("backbone falling with depth", init="lecun, falling with depth"),
        row("backbone growing with depth", init="lecun, growing with depth"),
        row("sign1", scaffold={"distribution": "sign1"}),
        row("orthogonal (hadamard)", init="orthogonal (hadamard)"),
        row("three scaffolds, one adapter, averaged", change="ensemble", scaffold={"scaffolds": {"b": 101, "c": 102}}),
        row("progressive freezing", change="progressive"),
    ]


INITS = (
    *("normal", "truncated normal", "uniform", "orthogonal (hadamard)", "Kaiming normal", "Kaiming uniform"),
    *("Xavier normal", "Xavier uniform", "spectral radius 0.95", "Cauchy", "Laplace", "Student t, 3"),
    *("Gaussian mixture", "sparse, 90 % zero", "beta(2, 5), centred", "exponential, centred", "quantised, 16 bits"),
    *("quantised, 8 bits", "quantised, 4 bits", "quantised, 2 bits", "binary", "normal8", "normal4", "normal2"),
)


def _inits() -> list[Row]:
    return [Row("digits", name, rank=8, rates=(1e-2,), seeds=3, more={"init": name}) for name in INITS]


ALL = ["q_proj", "k_proj", "v_proj", "o_proj"]


def _text() -> list[Row]:
    paper = {"scaffold": {"targets": ALL, "train": ["embeddings", "norms"]}}

    def row(label: str, rank: int, rates: tuple[float, ...], seeds: int = 3, **more: Any) -> Row:
        return Row("text", label, rank=rank, rates=rates, seeds=seeds, tuning=1, more=more)

    return [
        Row("text", "full training", "full", rates=(1e-3, 3e-3), seeds=3, tuning=1),
        row("adapters on all layers, rank 8", 8, (5e-3, 1e-2)),
        row("adapters on q, k, v, o, rank 8", 8, (5e-3, 1e-2), **paper),
        row("adapters on all layers, rank 32", 32, (5e-3, 1e-2), seeds=2),
        Row("text", "plain LoRA, rank 8", "lora", 8, rates=(3e-3,), seeds=2, tuning=1),
        row("adapters on all layers, rank 2", 2, (1e-2,), seeds=2),
        row("adapters on q, k, v, o, rank 32", 32, (1e-2,), seeds=2, **paper),
        row("the paper's rate: q, k, v, o, rank 8, alpha 16", 8, (1e-4,), seeds=1,
            scaffold={"targets": ALL, "train": ["embeddings"], "alpha": 16.0}),
        row("adapters on all layers, rank 8, sign1", 8, (1e-2,), seeds=1, scaffold={"distribution": "sign1"}),
        row("adapters on all layers, rank 64", 64, (5e-3,), seeds=1),
    ]  # fmt: skip


SECTIONS: dict[str, list[Row]] = {
    "mnist": _main("mnist"),
    "digits": _main("digits"),
    "digits-ranks": _ranks("digits"),
    "digits-paper": _paper("digits"),
    "inits": _inits(),
    "digits-ablations": _ablations("digits"),
    "digits-controls": _controls("digits"),
    "digits-lora": _lora("digits"),
    "text": _text(),
    "mnist-ranks": _ranks("mnist"),
    "mnist-paper": _paper("mnist"),
    "mnist-ablations": _ablations("mnist"),
    "mnist-lora": _lora("mnist"),
    "mnist-controls": _controls("mnist"),
}


def _quick(task: str, label: str, rate: float, side: str = "lotta", rank: int = 0, **more: Any) -> Row:
    return Row(task, f"{task}, {label}", side, rank, (rate,), more=more)


QUICK = [
    _quick("digits", "full training", 1e-2, "full"),
    _quick("digits", "rank 8", 1e-2, rank=8),
    _quick("mnist", "full training", 1e-2, "full"),
    _quick("mnist", "rank 8", 1e-2, rank=8),
    _quick("mnist", "rank 32", 1e-2, rank=32, scaffold={"init": "kaiming"}),
]
"""The README's table, with the rates that the sections above choose."""
