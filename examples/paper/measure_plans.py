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


BEST = {"scaffold": {"init": "kaiming", "dropout": 0.1}}
"""The best of the tries at rank 32 on MNIST, by the images to tune with; its learning rate is 1e-2."""
PLUS = {"scaffold": {"init": "kaiming"}, "ratio": 4}


def _main(task: str, tuning: int) -> list[Row]:
    rows = [Row(task, "full training", "full", tuning=tuning), Row(task, "rank 8", rank=8, tuning=tuning)]
    return rows if task == "mnist" else [*rows, Row(task, "rank 32", rank=32, tuning=tuning)]


def _mnist() -> list[Row]:
    return [
        *_main("mnist", 2),
        Row("mnist", "rank 32, kaiming, dropout 0.1", rank=32, rates=(1e-2,), more=BEST),
        Row("mnist", "full training, dropout 0.1", "full", rates=(1e-2,), seeds=2, more={"dropout": 0.1}),
        Row("mnist", "the paper's recipe, rank 8", rank=8, rates=(1e-3,), seeds=3, more={"scaffold": PAPER}),
        Row("mnist", "the same at the rate 0.01", rank=8, rates=(1e-2,), seeds=3, more={"scaffold": PAPER}),
    ]


def _tries() -> list[Row]:
    """What was tried at about 15 % of MNIST's parameters, in this order, before _mnist() was written."""
    kaiming = {"init": "kaiming"}
    ends = {"targets": ["0", "2"], "train": ["heads", "biases", "4", "6"]}
    gated = {**kaiming, "beta": "output"}
    three = {**kaiming, "scaffolds": {"b": 101, "c": 102}}

    def row(label: str, rate: float = 1e-2, rank: int = 32, seeds: int = 1, **more: Any) -> Row:
        return Row("mnist", label, rank=rank, rates=(rate,), seeds=seeds, more=more)

    return [
        row("rank 32, rate 1e-3", 1e-3, seeds=2),
        row("rank 32, rate 3e-3", 3e-3, seeds=2),
        row("rank 32, rate 1e-2", seeds=2),
        row("kaiming", seeds=2, scaffold=kaiming),
        row("dropout 0.1 on adapters", scaffold={"dropout": 0.1}),
        row("backbone doubled", init="lecun, doubled"),
        row("kaiming, dropout 0.1 on adapters", seeds=5, **BEST),
        row("kaiming, rsLoRA, rate 3e-3", 3e-3, scaffold={**kaiming, "scaling": "rslora"}),
        row("kaiming, alpha 8", scaffold={**kaiming, "alpha": 8.0}),
        row("kaiming, dropout 0.1 on all inputs", scaffold=kaiming, dropout=0.1),
        row("kaiming, orthogonal (hadamard)", scaffold={**kaiming, "distribution": "hadamard"}),
        row("kaiming, three scaffolds averaged", change="ensemble", scaffold=three),
        row("rank 21, small layers in full", rank=21, scaffold=ends),
        row("rank 21, small layers in full, kaiming", rank=21, seeds=3, scaffold={**ends, **kaiming}),
        row("rank 31, beta by output, kaiming", rank=31, seeds=2, scaffold=gated),
        row("kaiming, LoRA+ 4, rate 3e-3", 3e-3, seeds=5, **PLUS),
        row("kaiming, LoRA+ 16, rate 1e-3", 1e-3, scaffold=kaiming, ratio=16),
        row("rank 8, kaiming, LoRA+ 4, rate 3e-3", 3e-3, rank=8, seeds=2, **PLUS),
    ]


RECIPES: dict[str, dict[str, Any]] = {
    "label smoothing 0.1": {"smoothing": 0.1},
    "40 epochs": {"epochs": 40},
    "weight decay 0.1": {"decay": 0.1},
}


def _recipes() -> list[Row]:
    """The same changes of the recipe for both sides, each at the rate that is best for both without them."""
    return [
        Row("mnist", f"{label}, {name}", side, rank, rates=(1e-2,), seeds=2, more={**more, **change})
        for name, change in RECIPES.items()
        for label, side, rank, more in (("full training", "full", 0, {}), ("rank 32", "lotta", 32, BEST))
    ]


def _ranks(task: str) -> list[Row]:
    rates = RATES[1:3] if task == "mnist" else RATES[1:]  # at 0.03, rank 8 loses a point on MNIST
    return [Row(task, f"rank {rank}", rank=rank, rates=rates, seeds=3, tuning=1) for rank in (1, 2, 4, 16)]


def _controls(task: str, ranks: tuple[int, ...], seeds: int) -> list[Row]:
    more = {"static": {}, "zero": {"change": "zero"}}
    more |= {f"redrawn each {every}": {"change": f"redraw each {every}"} for every in ("epoch", "step")}
    return [
        Row(task, f"{name}, rank {rank}", rank=rank, rates=(1e-2,), seeds=seeds, more=change)
        for rank in ranks
        for name, change in more.items()
    ]


def _paper(task: str) -> list[Row]:
    recipe = {"scaffold": PAPER}
    return [Row(task, f"paper's recipe, rank {r}", rank=r, rates=(1e-3,), seeds=3, more=recipe) for r in RANKS]


def _lora(task: str) -> list[Row]:
    return [Row(task, f"plain LoRA, rank {rank}", "lora", rank, RATES[:3], seeds=3, tuning=1) for rank in (1, 8)]


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
    return [Row("digits", name, rank=8, rates=(1e-2,), seeds=2, more={"init": name}) for name in INITS]


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
    "mnist": _mnist(),
    "mnist-tries": _tries(),
    "mnist-recipes": _recipes(),
    "digits": _main("digits", 3),
    "digits-ranks": _ranks("digits"),
    "digits-paper": _paper("digits"),
    "inits": _inits(),
    "digits-ablations": _ablations("digits"),
    "digits-controls": _controls("digits", (8, 2, 32), 2),
    "digits-lora": _lora("digits"),
    "text": _text(),
    "mnist-ranks": _ranks("mnist"),
    "mnist-paper": _paper("mnist"),
    "mnist-ablations": _ablations("mnist"),
    "mnist-lora": _lora("mnist"),
    "mnist-controls": _controls("mnist", (2, 8, 32), 3),
}


def _quick(task: str, label: str, rate: float, side: str = "lotta", rank: int = 0, **more: Any) -> Row:
    return Row(task, f"{task}, {label}", side, rank, (rate,), more=more)


QUICK = [
    _quick("digits", "full training", 3e-3, "full"),
    _quick("digits", "rank 8", 1e-2, rank=8),
    _quick("mnist", "full training", 1e-2, "full"),
    _quick("mnist", "rank 8", 1e-2, rank=8),
    _quick("mnist", "rank 32, kaiming, dropout 0.1", 1e-2, rank=32, **BEST),
]
"""The README's table, with the rates that the sections above choose."""
