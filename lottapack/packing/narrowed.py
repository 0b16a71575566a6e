"""Models that were cast after scaffold(), as by ``.half()`` or ``.to(torch.bfloat16)``.

A weight that is generated in a narrower dtype is the wider one, rounded (spec: tables): a pack that records the dtype
in which the model holds it gives the same bits, and a model whose parts fit together when it is loaded.
"""

from collections.abc import Mapping

import msgspec
from torch import Tensor

from lottapack import rng
from lottapack.format import dtypes
from lottapack.format.recipe import AdaptedRecipe, ParameterRecipe, Recipe, SeededRecipe


def as_held(plan: Recipe, tensors: Mapping[str, Tensor]) -> Recipe:
    """The recipe with the dtypes of the moment of packing, where these are narrower than those of the scaffold.

    A checkpoint without the backbone tells it only where every floating tensor has one narrower dtype.
    """
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
