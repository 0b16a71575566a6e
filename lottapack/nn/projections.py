"""The random factors that the layers of a model share (VeRA), and the draws of factors that stay as they are."""

import math
from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from lottapack import rng
from lottapack.format.descriptor import FACTORS
from lottapack.format.factors import adapter_shapes, batch_dims_of
from lottapack.format.names import adapter_prefix
from lottapack.format.recipe import AdaptedRecipe, ParameterRecipe, SeededPart

FIRST_LAMBDA_D = 0.1
"""The first value of ``lambda_d``, as in PEFT. ``lambda_b`` starts at 0."""


def shared_by_layers(plan: Mapping[str, ParameterRecipe]) -> dict[str, ParameterRecipe]:
    """Return the plan with factors of adapters from the seed, each shared by all layers that it is large enough for.

    A layer uses the first rows and columns of the largest factor, as in VeRA (arXiv 2310.11454). Batches of matrices
    have factors of their own.
    """
    adapted = {name: entry for name, entry in plan.items() if isinstance(entry, AdaptedRecipe) and entry.rank}
    seeded: dict[str, dict[str, SeededPart]] = {name: {} for name in adapted}
    slices: dict[str, dict[str, str]] = {name: {} for name in adapted}
    for part in FACTORS:
        shapes = {name: adapter_shapes(entry)[part] for name, entry in adapted.items()}
        owners: list[str] = []
        for name in sorted(adapted, key=lambda name: (-math.prod(shapes[name]), name)):
            holds = (one for one in owners if _contains(adapted[one], shapes[one], adapted[name], shapes[name]))
            owner = next(holds, None)
            if owner is None:
                seeded[name][part] = kaiming(shapes[name][-1])
                owners += [] if batch_dims_of(adapted[name]) else [name]
            else:
                slices[name][part] = owner
    made = {
        name: msgspec.structs.replace(entry, seeded=seeded[name] or msgspec.UNSET, slices=slices[name] or msgspec.UNSET)
        for name, entry in adapted.items()
    }
    return {name: made.get(name, entry) for name, entry in plan.items()}


def _contains(owner: AdaptedRecipe, whole: tuple[int, ...], entry: AdaptedRecipe, part: tuple[int, ...]) -> bool:
    return (
        owner.dtype == entry.dtype
        and not batch_dims_of(entry)
        and all(mine <= its for mine, its in zip(part, whole, strict=True))
    )


def kaiming(inputs: int) -> SeededPart:
    """Return the distribution of VeRA's projections, Kaiming uniform with the gain of ReLU, as PEFT draws them."""
    return SeededPart(distribution="uniform16", scale=rng.binary32(math.sqrt(6 / inputs)))


def projection(seed: int, owner: str, part: str, drawn: SeededPart, like: Tensor) -> Tensor:
    """Return a factor from the seed. ``owner``: its parameter. ``like``: has its shape, dtype and device."""
    dtype = str(like.dtype).removeprefix("torch.")
    source = rng.Source(seed, adapter_prefix(owner) + part, rng.builtin(drawn.distribution), drawn.scale, dtype)
    return rng.fill_(torch.empty_like(like, memory_format=torch.contiguous_format), source)
