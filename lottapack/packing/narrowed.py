"""Models that were cast after scaffold(), such as by ``.half()``, and checkpoints that were cast on saving.

A weight generated in a narrower dtype is the wider one, rounded (spec: tables). So a pack that records the dtype in
which the model held the weight gives the same bits, and loads a model whose dtypes fit together.
"""

from collections.abc import Mapping

import msgspec
from torch import Tensor

from lottapack import rng
from lottapack.errors import CheckpointError
from lottapack.format import dtypes
from lottapack.format.recipe import AdaptedRecipe, ParameterRecipe, Recipe, SeededRecipe, StoredRecipe


def as_held(plan: Recipe, tensors: Mapping[str, Tensor]) -> tuple[Recipe, dict[str, Tensor]]:
    """Return the recipe with the dtypes in which the model held generated weights, and the tensors in its dtypes.

    Raises CheckpointError for generated weights in another dtype than at scaffold() that is not a narrower one.
    """
    held = _held(plan)
    _refuse_others(plan, held)
    sources = plan.sources()

    def now(name: str, entry: ParameterRecipe) -> ParameterRecipe:
        if not isinstance(entry, AdaptedRecipe | SeededRecipe) or entry.dtype != "float32":
            return entry
        dtype = held[name]
        unfit = dtype not in dtypes.GENERATED or (
            name in sources and rng.scale_fault(sources[name].table, entry.scale, dtype)
        )
        return entry if unfit else msgspec.structs.replace(entry, dtype=dtype)

    plan = msgspec.structs.replace(
        plan,
        parameters={name: now(name, entry) for name, entry in plan.parameters.items()},
        dtypes=plan.computed or msgspec.UNSET,
    )
    return plan, _as_in_model(plan, tensors)


def _held(plan: Recipe) -> dict[str, str]:
    """Return the dtype in which the model held each generated weight, whatever dtype the checkpoint has."""
    noted = plan.dtypes or {}
    return {
        name: noted.get(name, entry.dtype)
        for name, entry in plan.parameters.items()
        if isinstance(entry, AdaptedRecipe | SeededRecipe)
    }


def _refuse_others(plan: Recipe, held: Mapping[str, str]) -> None:
    """Refuse dtypes in which the seed gives other values, while the recorded one does not fit the parameters."""
    for name, dtype in held.items():
        entry = plan.parameters[name]
        assert isinstance(entry, AdaptedRecipe | SeededRecipe)
        if dtype != entry.dtype and dtypes.ITEMSIZE.get(dtype, 0) >= dtypes.ITEMSIZE[entry.dtype]:
            raise CheckpointError(
                f"{name} is {dtype} now, but was {entry.dtype} at scaffold(): its pack would load it as {entry.dtype}, "
                f"beside parameters in {dtype}",
                hint=f"Cast the model back before packing, with model.to(torch.{entry.dtype}), which rounds what was "
                "trained, and call lottapack.nn.regenerate_(model). Next time, cast it before scaffold().",
            )


def _as_in_model(plan: Recipe, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in the model's dtype, if whatever saved them converted all of them to another one.

    The recipe gives the dtype of a uniform model unless it says ``mixed``. A narrower adapter stays as it is, because
    loading widens it.
    """
    generated = {e.dtype for e in plan.parameters.values() if isinstance(e, AdaptedRecipe | SeededRecipe)}
    floating = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if plan.mixed is True or len(generated) != 1 or len(floating) != 1:
        return dict(tensors)
    own, given = dtypes.torch_dtype(*generated), floating.pop()
    if own == given:
        return dict(tensors)
    stored = {name for name in plan.parameters if isinstance(plan.parameters[plan.resolve(name)], StoredRecipe)}
    return {
        name: tensor.to(own)
        if tensor.is_floating_point() and (name in stored or own.itemsize <= given.itemsize)
        else tensor
        for name, tensor in tensors.items()
    }
