"""Run the trials of a study: in this process, in several, or on a cluster that joblib knows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

from lottapack.errors import ScaffoldError
from lottapack.extras import require
from lottapack.progress import Progress
from lottapack.studying.records import Records, Run
from lottapack.studying.search import FULL, LORA, Trial

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Trainer:
    """The functions of a study, which processes receive."""

    train: "Callable[[nn.Module, int, int | None], float]"
    build: "Callable[[int], nn.Module]"
    options: dict[str, Any]
    pretrained: "Callable[[int], nn.Module] | None"

    def description(self) -> dict[str, Any]:
        """Return what two studies must share for a common record: names of the functions, and the options."""
        functions = {"train": self.train, "build": self.build, "pretrained": self.pretrained}
        named = {role: _name(function) for role, function in functions.items()}
        return {**named, "options": {name: repr(value) for name, value in sorted(self.options.items())}}

    def __call__(self, trial: Trial) -> Run:
        """Build, scaffold and train a model."""
        import torch

        torch.manual_seed(trial.seed)
        model = self.build(trial.seed)
        if trial.side != FULL:
            model = self._adapted(model, trial)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.build(trial.seed).parameters())
        torch.manual_seed(trial.seed)
        begin = time.perf_counter()
        score = self.train(model, trial.seed, trial.rank)
        seconds = time.perf_counter() - begin
        return Run(*trial, _checked(score, trial), trained, total, round(seconds, 3))

    def _adapted(self, model: "nn.Module", trial: Trial) -> "nn.Module":
        from lottapack.nn.controls import put_backbone_
        from lottapack.nn.scaffolding import scaffold

        options = {"rank": trial.rank, **self.options}
        if trial.side != LORA:
            return scaffold(model, seed=trial.seed, **options)
        assert self.pretrained is not None
        model = scaffold(model, seed=trial.seed, **{**options, "beta": 1.0})
        put_backbone_(model, self.pretrained(trial.seed))
        return model


def _name(function: Any) -> str | None:
    """Return the name of a function, as ``module:function``; the module of a script is ``__main__``.

    The name includes what a ``functools.partial`` binds, and the representation of any other callable object.
    """
    if function is None:
        return None
    if isinstance(function, partial):
        return f"{_name(function.func)} with {function.args!r} {function.keywords!r}"
    if hasattr(function, "__qualname__"):
        return f"{function.__module__}:{function.__qualname__}"
    kind = type(function)
    said = "" if repr(function) == object.__repr__(function) else f" {function!r}"
    return f"{kind.__module__}:{kind.__qualname__}{said}"


def _checked(score: Any, trial: Trial) -> float:
    value = score.item() if hasattr(score, "item") and not isinstance(score, Real) else score
    if not (isinstance(value, Real) and isfinite(value)):
        raise ScaffoldError(
            f"`train` returned {score!r} for {describe(trial)}",
            hint="Return a finite number. For a run that diverged, return the worst score.",
        )
    return float(value)


def describe(trial: Trial) -> str:
    """Return ``rank 8, seed 0``."""
    return f"{'full training' if trial.rank is None else f'rank {trial.rank}'}, seed {trial.seed}"


def run_all(
    trainer: Trainer, trials: Sequence[Trial], kept: Records, workers: int | None, progress: Progress | None
) -> None:
    """Run trials and keep each as soon as it is done."""
    joblib = require("joblib", "study", "study()")
    before = len(kept.runs)
    if progress is not None:
        progress(before, before + len(trials))
    with joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1) as parallel:
        for done, run in enumerate(parallel(joblib.delayed(trainer)(trial) for trial in trials), 1):
            kept.add(run)
            if progress is not None:
                progress(before + done, before + len(trials))
