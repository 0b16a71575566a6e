"""Models that were cast after scaffold(), as by ``.half()`` or ``.to(torch.bfloat16)``.

A weight that is generated in a narrower dtype is the wider one, rounded (spec: tables): a pack that records the dtype
in which the model holds it gives the same bits, and a model whose parts fit together when it is loaded.
"""

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from lottapack import rng
from lottapack.errors import CheckpointError
from lottapack.format import dtypes
from lottapack.format.recipe import AdaptedRecipe, ParameterRecipe, Recipe, SeededRecipe


def as_held(plan: Recipe, tensors: Mapping[str, Tensor]) -> Recipe:
    """The recipe with the dtypes of the moment of packing, where these are narrower than those of the scaffold.

    A checkpoint without the backbone tells it only where every floating tensor has one narrower dtype. Raises
    CheckpointError for a backbone that is held in a wider dtype than the scaffold's.
    """
    _refuse_wider(plan, tensors)
    if plan.rng.id == rng.TORCH_CPU:
        return plan
    floating = {dtypes.dtype_name(tensor.dtype) for tensor in tensors.values() if tensor.is_floating_point()}
    of_all = floating.pop() if len(floating) == 1 else "float32"
    sources = plan.sources()

    def held(name: str, entry: ParameterRecipe) -> ParameterRecipe:
        if not isinstance(entry, AdaptedRecipe | SeededRecipe) or entry.dtype != "float32":
            return entry
        weight = tensors.get(name)
        dtype = of_all if weight is None else dtypes.dtype_name(weight.dtype)
        if dtype not in dtypes.GENERATED or rng.scale_fault(sources[name].table, entry.scale, dtype):
            return entry
        return msgspec.structs.replace(entry, dtype=dtype)

    parameters = {name: held(name, entry) for name, entry in plan.parameters.items()}
    return msgspec.structs.replace(plan, parameters=parameters)


def _refuse_wider(plan: Recipe, tensors: Mapping[str, Tensor]) -> None:
    """Drawn in the wider dtype, a weight has other values; in the narrower, it does not fit the other parameters."""
    for name, entry in plan.parameters.items():
        weight = tensors.get(name)
        if weight is None or not isinstance(entry, AdaptedRecipe | SeededRecipe):
            continue
        narrow = dtypes.torch_dtype(entry.dtype)
        if weight.dtype == torch.float32 and narrow.itemsize < weight.dtype.itemsize:
            raise CheckpointError(
                f"{name} is {weight.dtype} now, and was {narrow} in scaffold(): its pack would load it as {narrow}, "
                "beside parameters of the wider dtype",
                hint=f"Cast the model back before packing, model.to({narrow}), which rounds what was trained. Next "
                "time cast it before scaffold().",
            )
