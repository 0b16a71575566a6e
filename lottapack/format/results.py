"""Scores of a model, in the field ``x-results`` of its descriptor (spec: descriptor, section 2)."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

import msgspec

from lottapack.errors import CheckpointError
from lottapack.strict_json.text import JsonText

__all__ = ["Result"]

MOST_BYTES = 32_768
"""The most bytes of all results as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a model reached on a data set. It travels in the pack and in the model card.

    Attributes:
        task: as the Hub calls it, such as ``"image-classification"``.
        dataset: its name. metric: its name, such as ``"accuracy"``. score: the value, in the metric's own unit.
        split: the part of the data set. deviation: the standard deviation over seeds. seeds: how many.
        rank: of the adapters. full: the score of full training. chance: the score of a guess.

    Source:
        spec/v1/descriptor.md, section 2.

    Examples:
        >>> net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> model = lottapack.scaffold(net, seed=42, rank=2)
        >>> score = lottapack.Result(task="image-classification", dataset="digits", metric="accuracy", score=0.97)
        >>> _ = lottapack.pack(model, "scored.lotta.safetensors", results=[score])
        >>> lottapack.inspect("scored.lotta.safetensors").results[0].score
        0.97
    """

    task: str
    dataset: str
    metric: str
    score: float
    split: str | None = None
    deviation: float | None = None
    seeds: int | None = None
    rank: int | None = None
    full: float | None = None
    chance: float | None = None


def results_of(results: Iterable[Result | Mapping[str, Any]]) -> tuple[Result, ...]:
    """Return the argument of pack(), checked. Raises CheckpointError, naming the number of the result."""
    if not isinstance(results, Iterable):
        raise CheckpointError(
            f"results={reprlib.repr(results)} is not a list of results", hint="Pass lottapack.Result(...) in a list."
        )
    checked = []
    known = {field.name for field in fields(Result)}
    for number, one in enumerate(results):
        given = asdict(one) if isinstance(one, Result) else one
        try:
            if isinstance(given, Mapping):
                given = {name: _plain(value) for name, value in given.items()}
            made = msgspec.convert(given, Result)
            if unknown := given.keys() - known:
                raise ValueError(f"the field {min(unknown)} is unknown")
        except (msgspec.ValidationError, ValueError) as fault:
            raise CheckpointError(
                f"results[{number}]: {fault}", hint="Pass lottapack.Result(task=, dataset=, metric=, score=)."
            ) from fault
        if not all(isfinite(value) for value in asdict(made).values() if isinstance(value, float)):
            raise CheckpointError(f"results[{number}]: a number is not finite", hint="Leave such a result out.")
        checked.append(made)
    if len(msgspec.json.encode(in_json(checked))) > MOST_BYTES:
        raise CheckpointError(f"results take more than {MOST_BYTES:,} bytes", hint="Pass fewer or shorter ones.")
    return tuple(checked)


def _plain(value: Any) -> Any:
    """Return a number of NumPy or torch as Python's own."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", True) else value


def in_json(results: Iterable[Result]) -> tuple[dict[str, Any], ...]:
    """Return results as the descriptor holds them: without fields that are None."""
    return tuple({name: value for name, value in asdict(one).items() if value is not None} for one in results)


def read_results(text: JsonText | None) -> tuple[Result, ...]:
    """Return the results in a descriptor, or none if they cannot be read, since they never matter for a weight."""
    if text is None or len(text) > MOST_BYTES:
        return ()
    try:
        return msgspec.convert(text.value(), tuple[Result, ...])
    except (msgspec.ValidationError, ValueError):
        return ()
