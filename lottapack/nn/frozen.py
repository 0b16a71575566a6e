"""Frozen parameters of any module: which of them the seed generates, and along which axis their inputs are.

Layers that can have an adapter are always generated. This module is for everything else with weights: experts of three
dimensions, recurrent weights, ``in_proj_weight``, other convolutions, bilinear layers, subclasses, raw parameters.
"""

import math

from torch import nn

from lottapack.format import dtypes
from lottapack.nn.kinds import experts_inputs_first
from lottapack.nn.select import Entry

_TRANSPOSED = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
_OUTPUTS_FIRST = nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Bilinear


def is_drawn(entry: Entry) -> bool:
    """Return whether the seed may generate a frozen parameter that cannot have an adapter.

    Norms, biases, vectors, and values that are never random keep what they have. A constant costs nothing in a pack,
    and each row of Mamba's ``A_log`` is the same.
    """
    tensor = entry.tensor
    if entry.group in ("buffer", "norm", "bias") or dtypes.dtype_name(tensor.dtype) not in dtypes.GENERATED:
        return False
    if sum(size > 1 for size in tensor.shape) < 2 or not tensor.numel():
        return False
    rows = tensor.detach().flatten(0, -2)
    return tensor.is_meta or not bool((rows == rows[:1]).all())


def fans(entry: Entry) -> tuple[int, int]:
    """Return ``(d_out, d_in)`` of such a parameter: the outputs and inputs of each weight matrix in it."""
    module, shape = entry.module, tuple(entry.tensor.shape)
    if entry.leaf == "weight" and isinstance(module, _TRANSPOSED):
        # Each output position receives one in stride of the kernel's elements.
        kernel = math.prod(shape[2:]) / math.prod(module.stride)
        return max(round(shape[1] * kernel), 1), max(round(shape[0] / module.groups * kernel), 1)
    if entry.leaf == "weight" and isinstance(module, _OUTPUTS_FIRST):
        return shape[0], math.prod(shape[1:])
    if len(shape) == 3 and experts_inputs_first(module, entry.leaf):
        return shape[2], shape[1]
    return shape[-2], shape[-1]
