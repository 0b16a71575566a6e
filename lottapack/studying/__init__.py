"""study(): how the score of a task depends on the rank of the adapters."""

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from lottapack.files.paths import path_of
from lottapack.progress import Progress, require_functions
from lottapack.studying.curve import Point, Study
from lottapack.studying.records import Records
from lottapack.studying.search import Plan, check
from lottapack.studying.trials import Trainer, run_all

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Point", "Study", "study"]


def study(
    train: "Callable[[nn.Module, int, int | None], float]",
    build: "Callable[[int], nn.Module]",
    *,
    ranks: Iterable[int] = (1, 2, 4, 8, 16, 32),
    seeds: int = 3,
    tolerance: float = 0.01,
    maximise: bool = True,
    thorough: bool = False,
    options: Mapping[str, Any] | None = None,
    pretrained: "Callable[[int], nn.Module] | None" = None,
    record: str | PathLike[str] | None = None,
    workers: int | None = 1,
    progress: Progress | None = None,
) -> Study:
    """Find the smallest rank whose score is within a tolerance of full training.

    Full training runs with all seeds, each rank with one. The half of the ranks that lie nearest to the target then
    run with a second seed, half of those with two more, and so on. Last, bisection finds the smallest rank between two
    of them, with all seeds. It assumes that the score does not fall as the rank grows, apart from noise.

    Args:
        train: trains a model and returns its score, of ``(model, seed, rank)``. ``rank`` is None for full training. It
            chooses its learning rate itself: pass each side what suits it.
        build: returns the untrained plain model for a seed. study() sets torch's seed before, and scaffolds the model
            unless it is trained in full.
        ranks: the ranks to begin with.
        seeds: how many seeds a decision needs: 0, 1, ...
        tolerance: how far the mean score may stay behind that of full training, in the score's own unit.
        maximise: whether a larger score is better. False for a loss.
        thorough: run all ranks with all seeds.
        options: more arguments of scaffold(), such as ``{"distribution": "sign1"}``.
        pretrained: returns a model with trained weights for a seed. Adapters on these (plain LoRA) run beside the
            others, with each of ``ranks``.
        record: a JSON Lines file. Each finished run is added to it, and a study that was killed continues from it. It
            knows functions by their names and by what ``functools.partial`` binds, not by their code.
        workers: processes. None takes joblib's current configuration, such as a Dask or Ray cluster.
        progress: called with the runs done so far and those planned so far.

    Returns:
        The curve, and the smallest rank within the tolerance, or None if no rank reaches it.

    Raises:
        ScaffoldError: an argument is not valid, or `train` returned something other than a finite number.
        CheckpointError: `record` belongs to another study.
        UnsupportedError: joblib is not installed.

    Source:
        LottaLoRA (arXiv 2604.08749): the rank at which the score saturates estimates a task's intrinsic dimension.

    Examples:
        >>> def build(seed):
        ...     return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> def train(model, seed, rank):
        ...     return 1.0 if rank is None else 1 - 0.08 / rank
        >>> found = lottapack.study(train, build, ranks=[1, 2, 4], seeds=2, tolerance=0.05)
        >>> found.rank, [point.rank for point in found.curve]
        (2, [1, 2, 4])
    """
    require_functions(True, train=train, build=build)
    require_functions(pretrained=pretrained, progress=progress)
    ranks = tuple(ranks) if isinstance(ranks, Iterable) else (ranks,)
    check(ranks, seeds, tolerance, workers, {} if options is None else options)
    # Numbers of NumPy count too, but JSON does not hold them.
    whole = tuple(sorted({int(rank) for rank in ranks}))
    plan = Plan(whole, int(seeds), float(tolerance), maximise, thorough, pretrained is not None)
    trainer = Trainer(train, build, dict(options or {}), pretrained)
    kept = Records(None if record is None else path_of(record, "record"), trainer.description())
    while missing := [trial for trial in plan.wanted(kept.scores()) if trial not in kept]:
        run_all(trainer, missing, kept, workers, progress)
    return Study.of(plan, kept.runs)
