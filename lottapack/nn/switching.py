"""switch(): change a model with several scaffolds to another one, in place (spec: descriptor, section 6)."""

from contextlib import suppress
from dataclasses import replace
from types import TracebackType

import torch
from torch import nn

from lottapack import rng
from lottapack.arch.noted import noted, recipe_on, require_module
from lottapack.errors import LottapackError
from lottapack.format.descriptor import DEFAULT_SCAFFOLD, unknown_scaffold
from lottapack.nn.attach import recipe_of
from lottapack.nn.generating import fill_backbone
from lottapack.nn.recomputing import note


class Switched:
    """The result of switch(): a context manager that returns to the previous scaffold; it may also be dropped.

    ``previous``: the name of that scaffold.
    """

    def __init__(self, model: nn.Module, previous: str) -> None:
        self._model = model
        self.previous = previous

    def __enter__(self) -> nn.Module:
        return self._model

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        switch(self._model, self.previous)


@torch.no_grad()
def switch(model: nn.Module, scaffold: str) -> Switched:
    """Put a scaffolded model on another of its scaffolds, by generating its backbone from that seed in place.

    Nothing is loaded or allocated; adapters and what is trained in full stay as they are. Switch between training
    steps: a backward pass needs the backbone of its forward pass, and raises torch's error if that was replaced.
    With gradient checkpointing, which runs the forward pass again, it raises ScaffoldError.

    Args:
        model: from ``scaffold(..., scaffolds=...)`` or ``load()`` (not merged), also inside a wrapper such as DDP, on
            any device and in any dtype.
        scaffold: a name from ``scaffolds_of(model)``.

    Returns:
        A context manager: ``with switch(model, "task-b"):`` returns at its end. Without ``with``, the switch stays.

    Raises:
        ScaffoldError: the model does not have the named scaffold.
        CheckpointError: the model does not have a recipe.
        PlacementError: its weights are distributed; fill_() fills these.

    After an error the model is on its previous scaffold.

    Source:
        The paper's seed gating; spec/v1/descriptor.md, section 6.

    Examples:
        >>> net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> model = lottapack.scaffold(net, seed=42, scaffolds={"task-b": 43}, rank=2)
        >>> with lottapack.switch(model, "task-b"):
        ...     lottapack.nn.active_scaffold(model)
        'task-b'
        >>> lottapack.nn.active_scaffold(model)
        'default'
    """
    previous = active_scaffold(model)
    holders = [module for module in model.modules() if noted(module).recipe is not None]
    for holder in holders:
        plan = recipe_on(holder)
        if not isinstance(scaffold, str) or scaffold not in plan.seeds:
            raise unknown_scaffold(scaffold, plan.rng.scaffolds or {})
    moving = [holder for holder in holders if _seeds(holder) - {recipe_on(holder).seeds[scaffold]}]
    if moving:
        before = _noted(moving, scaffold)
        try:
            for holder in moving:
                fill_backbone(holder)
        except BaseException:
            _set_sources(before)
            # Nothing was written if a weight cannot be; otherwise this restores what was there.
            with suppress(LottapackError):
                for holder in moving:
                    fill_backbone(holder)
            raise
    return Switched(model, previous)


def note_scaffold(model: nn.Module, scaffold: str) -> None:
    """Record on a model which scaffold its weights are on, after something else has filled them."""
    _noted([module for module in model.modules() if noted(module).recipe is not None], scaffold)


_Sources = list[tuple[nn.Module, dict[str, rng.Source]]]


def _noted(holders: list[nn.Module], scaffold: str) -> _Sources:
    """Give every source the seed of a scaffold, which defines the active one; return the previous sources."""
    before: _Sources = []
    for holder in holders:
        seed = recipe_on(holder).seeds[scaffold]
        changes = _seeds(holder) - {seed}
        for module in holder.modules():
            sources = noted(module).sources
            if sources and changes:
                before.append((module, dict(sources)))
                note(module)
                sources.update({leaf: replace(source, seed=seed) for leaf, source in sources.items()})
                note(module)
    return before


def _set_sources(before: _Sources) -> None:
    for module, sources in before:
        noted(module).sources.update(sources)
        note(module)


def active_scaffold(model: nn.Module) -> str:
    """Return the name of the scaffold that a model is on.

    Args:
        model: from scaffold() or load().

    Returns:
        A name from scaffolds_of().

    Raises:
        CheckpointError: the model has no recipe.

    Source:
        spec/v1/descriptor.md, section 6.

    Examples:
        >>> lottapack.nn.active_scaffold(lottapack.load("model.lotta.safetensors"))
        'default'
    """
    require_module(model)
    seeds = _seeds(model)
    for name, seed in recipe_of(model).seeds.items():
        if seed in seeds:
            return name
    return DEFAULT_SCAFFOLD


def scaffolds_of(model: nn.Module) -> dict[str, int]:
    """Return the seed of each of a model's scaffolds by name, ``default`` first.

    Args:
        model: from scaffold() or load().

    Returns:
        Seeds by name.

    Raises:
        CheckpointError: the model has no recipe.

    Source:
        spec/v1/descriptor.md, section 6.

    Examples:
        >>> lottapack.nn.scaffolds_of(lottapack.load("model.lotta.safetensors"))
        {'default': 42}
    """
    return recipe_of(model).seeds


def _seeds(model: nn.Module) -> set[int]:
    return {source.seed for module in model.modules() for source in noted(module).sources.values()}
