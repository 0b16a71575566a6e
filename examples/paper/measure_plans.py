"""What measure.py runs: rows of runs, by section."""

from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class Best:
    """The best of several rows of one rate by the data to tune with, with more seeds."""

    label: str
    tries: tuple[Row, ...]
    seeds: int = 5

    def row(self, number: int) -> Row:
        """Return the row of a try, with all seeds."""
        tried = self.tries[number]
        return replace(tried, label=f"{self.label}: {tried.label}", seeds=self.seeds)


BEST = {"scaffold": {"init": "kaiming", "dropout": 0.1}}
"""The best of the tries at rank 32 on MNIST, by the images to tune with; its learning rate is 1e-2."""
SOFT = {**BEST, "smoothing": 0.1}
ENDS = {"targets": ["0", "2"], "train": ["heads", "biases", "4", "6"]}
"""Selective freezing: the large layers have adapters, the small ones are trained in full."""
PLUS = {"scaffold": {"init": "kaiming"}, "ratio": 4}


def _main(task: str, tuning: int) -> list[Row | Best]:
    rows = [Row(task, "full training", "full", tuning=tuning), Row(task, "rank 8", rank=8, tuning=tuning)]
    return rows if task == "mnist" else [*rows, Row(task, "rank 32", rank=32, tuning=tuning)]


def _mnist() -> list[Row | Best]:
    paper = {"scaffold": PAPER}
    return [
        *TUNED,
        Row(
            "mnist",
            "full training, not upright, 80 epochs",
            "full",
            rates=(3e-3,),
            more={**FURTHER, "dropout": 0.1},
        ),
        *(
            Row(
                "mnist",
                f"rank {rank}, not upright, 80 epochs",
                rank=GATED[rank],
                rates=(1e-2,),
                more={**FURTHER, **GUIDED},
            )
            for rank in (32, 8)
        ),
        Row("mnist", "full training, moved, 40 epochs", "full", rates=(3e-3,), more={**MOVED, "epochs": 40}),
        *(
            Row("mnist", f"rank {rank}, moved, 40 epochs", rank=rank, rates=(1e-2,), more={**MOVED, "epochs": 40})
            for rank in (32, 8)
        ),
        Row(
            "mnist",
            "full training, not moved: kaiming, dropout 0.2, 40 epochs",
            "full",
            rates=(3e-3,),
            more={"dropout": 0.2, "scaffold": HE, "epochs": 40},
        ),
        *(
            Row("mnist", f"rank {rank}, not moved: kaiming, dropout, smoothing", rank=rank, rates=(1e-2,), more=SOFT)
            for rank in (32, 8)
        ),
        Row(
            "mnist", "full training: kaiming, dropout 0.2", "full", rates=(3e-3,), more={"dropout": 0.2, "scaffold": HE}
        ),
        *_main("mnist", 2),
        Row("mnist", "rank 32, kaiming, dropout 0.1", rank=32, rates=(1e-2,), more=BEST),
        Row("mnist", "the paper's recipe, rank 8", rank=8, rates=(1e-3,), seeds=3, more=paper),
        Row("mnist", "the same at the rate 0.01", rank=8, rates=(1e-2,), seeds=3, more=paper),
        Row("mnist", "the same bytes: kaiming, alpha = rank, no dropout", rank=8, rates=(1e-2,), seeds=3, more=EQUAL),
    ]


def _tries() -> list[Row]:
    """What was tried at about 15 % of MNIST's parameters, in this order, before _mnist() was written."""
    kaiming = {"init": "kaiming"}
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
        row("rank 21, small layers in full", rank=21, scaffold=ENDS),
        row("rank 21, small layers in full, kaiming", rank=21, seeds=3, scaffold={**ENDS, **kaiming}),
        row("rank 31, beta by output, kaiming", rank=31, seeds=2, scaffold=gated),
        row("kaiming, LoRA+ 4, rate 3e-3", 3e-3, seeds=5, **PLUS),
        row("kaiming, LoRA+ 16, rate 1e-3", 1e-3, scaffold=kaiming, ratio=16),
        row("rank 8, kaiming, LoRA+ 4, rate 3e-3", 3e-3, rank=8, seeds=2, **PLUS),
    ]


HE = {"init": "kaiming"}
"""The standard deviation (2 / inputs) ** 0.5: of the backbone, or of what full training begins with."""


EQUAL = {"scaffold": {**HE, "train": "heads"}}
"""As many bytes as PAPER."""
MOVED: dict[str, Any] = {"scaffold": HE, "moved": True, "smoothing": 0.1}
"""Images are turned, scaled and shifted a little, and labels smoothed."""
FURTHER: dict[str, Any] = {**MOVED, "moved": 1.5, "epochs": 80}
UPRIGHT: dict[str, Any] = {"upright": True}
GUIDED: dict[str, Any] = {"scaffold": {**HE, "beta": "input"}, "start": "inputs"}
GATED = {8: {"0": 7, "2": 8, "4": 8, "6": 7}, 32: 31}
"""Ranks that leave room for a beta by input: 3.99 and 14.80 % are trained."""


def _tuning(side: str, rank: int) -> tuple[Row, ...]:
    """The same tries for each side, with images that move from the fourteenth on.

    The twelfth and the twenty-first are the side's own. The last is the best of those before, with upright images.
    """
    full = side == "full"
    dropout = {"dropout": 0.1} if full else {"scaffold": {"dropout": 0.1}}
    both = {"dropout": 0.1, "scaffold": HE} if full else BEST
    own = (
        [
            ("kaiming, dropout 0.2", 3e-3, {**both, "dropout": 0.2}),
            ("kaiming, dropout 0.2, 40 epochs", 3e-3, {**both, "dropout": 0.2, "epochs": 40}),
        ]
        if full
        else [
            ("kaiming, dropout, LoRA+ 16", 1e-3, {**both, "ratio": 16}),
            ("kaiming, dropout, smoothing, 40 epochs", 1e-2, {**both, "smoothing": 0.1, "epochs": 40}),
        ]
    )
    best = 3e-3 if full else 1e-2
    tries: list[tuple[str, float, dict[str, Any]]] = [
        *(("as it comes", rate, {}) for rate in RATES),
        ("kaiming", 1e-2, {"scaffold": HE}),
        ("dropout", 1e-2, dropout),
        ("kaiming, dropout", 1e-2, both),
        ("kaiming, dropout", 3e-3, both),
        ("kaiming, dropout, smoothing", 1e-2, {**both, "smoothing": 0.1}),
        ("kaiming, dropout, decay 0.1", 1e-2, {**both, "decay": 0.1}),
        ("kaiming, dropout, 40 epochs", 1e-2, {**both, "epochs": 40}),
        *own,
        ("kaiming, moved", 3e-3, {"scaffold": HE, "moved": True}),
        ("kaiming, moved, smoothing", 1e-2, MOVED),
        ("kaiming, moved, smoothing", 3e-3, MOVED),
        ("kaiming, moved, smoothing, decay 0.5", best, {**MOVED, "decay": 0.5}),
        ("kaiming, moved, smoothing, 40 epochs", best, {**MOVED, "epochs": 40}),
        ("kaiming, moved, smoothing, 80 epochs", best, {**MOVED, "epochs": 80}),
        ("kaiming, moved 1.5 times, smoothing, 80 epochs", best, FURTHER),
    ]
    rows = [Row("mnist", label, side, rank, (rate,), seeds=2, more=more) for label, rate, more in tries]
    if full:
        own = replace(rows[-1], label=f"{rows[-1].label}, dropout", more={**FURTHER, "dropout": 0.1})
    else:
        label = f"{rows[-1].label}, A from inputs, beta by input"
        own = replace(rows[-1], label=label, rank=GATED[rank], more={**FURTHER, **GUIDED})
    upright = replace(own, label=own.label.replace("moved", "upright, moved"), more={**own.more, **UPRIGHT})
    return (*rows, own, upright)


TUNING = {"full training": _tuning("full", 0), **{f"rank {rank}": _tuning("lotta", rank) for rank in (32, 8)}}
TUNED = [Best(side, tries) for side, tries in TUNING.items()]


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
        row("the paper's bytes: kaiming, alpha = rank, no dropout, rate 1e-2", **EQUAL),
        row("label smoothing 0.1", smoothing=0.1),
        row("kaiming, dropout 0.1, label smoothing 0.1", scaffold=BEST["scaffold"], smoothing=0.1),
        row("the first layer frozen, rank 16", rank=16, scaffold={"targets": ["2", "4", "6"]}),
        row("only the first two layers adapted, rank 9", rank=9, scaffold={"targets": ["0", "2"]}),
        row("the small layers in full, rank 4", rank=4, scaffold=ENDS),
    ]


def _gating() -> list[Row]:
    def row(rank: int, label: str, **more: Any) -> Row:
        return Row("digits", f"{label}, rank {rank}", rank=rank, rates=(1e-2,), seeds=3, more={"epochs": 90, **more})

    three = {"scaffolds": {"b": 101, "c": 102}}
    return [
        made
        for rank in (8, 32)
        for made in (
            row(rank, "one task"),
            row(rank, "three tasks, a scaffold each", change="three tasks", scaffold=three),
            row(rank, "three tasks, one scaffold", change="three tasks"),
        )
    ]


INITS = (
    *("normal", "truncated normal", "uniform", "orthogonal (hadamard)", "Kaiming normal", "Kaiming uniform"),
    *("Xavier normal", "Xavier uniform", "spectral radius 0.95", "Cauchy", "Laplace", "Student t, 3"),
    *("Gaussian mixture", "sparse, 90 % zero", "beta(2, 5), centred", "exponential, centred", "quantised, 16 bits"),
    *("quantised, 8 bits", "quantised, 4 bits", "quantised, 2 bits", "binary", "normal8", "normal4", "normal2"),
)


def _inits() -> list[Row]:
    return [Row("digits", name, rank=8, rates=(1e-2,), seeds=2, more={"init": name}) for name in INITS]


ATTENTION = {"targets": ["q_proj", "k_proj", "v_proj", "o_proj"], "train": ["embeddings", "norms"]}
"""The layers that the paper adapts in its Llamas."""


def _text() -> list[Row]:
    def row(label: str, rank: int, *rates: float, **more: Any) -> Row:
        side = "lotta" if rank else "full"
        return Row("text", label, side, rank, rates, seeds=3 if rank < 32 else 2, tuning=1, more=more)

    return [
        row("full training", 0, 1e-3, 5e-4, 2e-3, 2.5e-4),
        row("adapters on all layers, rank 8", 8, 5e-3, 2.5e-3, 1e-2),
        row("adapters on q, k, v, o, rank 8", 8, 5e-3, 1e-2, scaffold=ATTENTION),
        row("adapters on all layers, rank 2", 2, 5e-3, 1e-2),
        row("adapters on all layers, rank 32", 32, 2.5e-3, 5e-3, 1.25e-3),
        row("full training from the scaffold's weights", 0, 1e-3, 5e-4, scaffold={}),
    ]


def _small(task: str, seeds: int, tuning: int, **more: Any) -> list[Row]:
    def row(rank: int) -> Row:
        return Row(task, f"rank {rank}", rank=rank, seeds=seeds, tuning=tuning, more=more)

    return [Row(task, "full training", "full", seeds=seeds, tuning=tuning), *map(row, (1, 2, 4, 8))]


def _smoothed() -> list[Row]:
    soft = {"smoothing": 0.1}
    return [
        Row("digits", "full training, label smoothing 0.1", "full", rates=(3e-3,), more=soft),
        Row("digits", "rank 8, label smoothing 0.1", rank=8, rates=(1e-2,), more=soft),
    ]


SECTIONS: dict[str, list[Row | Best]] = {
    "mnist": _mnist(),
    **{f"mnist-tuning-{side.replace(' ', '-')}": [*rows] for side, rows in TUNING.items()},
    "mnist-tries": _tries(),
    "digits": [*_main("digits", 3), *_smoothed()],
    "digits-ranks": _ranks("digits"),
    "digits-paper": _paper("digits"),
    "inits": _inits(),
    "digits-ablations": _ablations("digits"),
    "digits-controls": _controls("digits", (8, 2, 32), 2),
    "digits-lora": _lora("digits"),
    "digits-gating": _gating(),
    "text": _text(),
    "karate": _small("karate", 20, 20),
    "cartpole": _small("cartpole", 5, 2, scaffold={"targets": "2", "train": ["heads", "biases", "0"]}),
    "mnist-ranks": _ranks("mnist"),
    "mnist-paper": _paper("mnist"),
    "mnist-ablations": _ablations("mnist"),
    "mnist-lora": _lora("mnist"),
    "mnist-controls": _controls("mnist", (2, 8, 32), 3),
}


QUICK = [
    Row("mnist", "full training", "full", rates=(3e-3,), more={**FURTHER, **UPRIGHT, "dropout": 0.1}),
    Row("mnist", "random backbone, rank 31", rank=GATED[32], rates=(1e-2,), more={**FURTHER, **GUIDED, **UPRIGHT}),
    Row("mnist", "random backbone, ranks 7 and 8", rank=GATED[8], rates=(1e-2,), more={**FURTHER, **GUIDED, **UPRIGHT}),
]
"""The README's table: what TUNED chooses."""
