"""Measure on a sample what each form costs for the tensors of a pack."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lottapack.codecs import CODECS
from lottapack.errors import CheckpointError
from lottapack.format import dtypes
from lottapack.packing.forms import coded, errors, size_of

_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a form for a group of tensors, measured on a sample.

    ``bits``: bits of an element. ``size``: bytes of the whole group. ``rms``: error relative to the root mean square.
    """

    group: str
    form: str
    bits: float
    size: int
    rms: float


def costs(seen: Mapping[str, list[Tensor]]) -> tuple[Cost, ...]:
    """Return the costs of all forms for each group of floating tensors, from a sample of its largest."""
    found: list[Cost] = []
    for group, tensors in seen.items():
        floating = [tensor for tensor in tensors if tensor.dim() > 1 and tensor.is_floating_point()]
        count = sum(tensor.numel() for tensor in floating)
        sample = [_part(tensor) for tensor in sorted(floating, key=lambda tensor: -tensor.numel())[:3]]
        for form in (form for codec in CODECS.values() for form in codec.trials):
            made = [one for tensor in sample if (one := _cost(tensor, form)) is not None]
            if made:
                size, elements, error = (sum(values) for values in zip(*made, strict=True))
                bits = 8 * size / elements
                found.append(Cost(group, form, bits, round(bits * count / 8), error / len(made)))
    return tuple(found)


def _part(tensor: Tensor) -> Tensor:
    """Return the first rows of a tensor."""
    rows = tensor.reshape(tensor.shape[0], -1)
    return rows[: max(1, _SAMPLE // max(1, rows.shape[1]))].contiguous()


def _cost(tensor: Tensor, form: str) -> tuple[int, int, float] | None:
    """Return bytes, elements and root mean square error, or None if the form does not fit the tensor."""
    coding, _, error = form.partition("@")
    if not CODECS[coding].fits(dtypes.dtype_name(tensor.dtype)) or not bool(tensor.isfinite().all()):
        return None
    try:
        made = coded(CODECS[coding], "a sample", tensor, float(error or 0))
    except CheckpointError:
        return None  # a value is outside the form's range
    return made and (size_of(made[1]), tensor.numel(), errors(tensor, made[0])[2])
