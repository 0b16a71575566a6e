"""Measure on a sample what each form costs for the tensors of a pack."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lottapack.format import codings, dtypes
from lottapack.packing import forms

_ERRORS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
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
        for form in ("float16", *codings.BLOCKS, *(f"{codings.TRELLIS}@{error}" for error in _ERRORS)):
            made = [one for tensor in sample if (one := _cost(tensor, form)) is not None]
            if made:
                size, elements, errors = (sum(values) for values in zip(*made, strict=True))
                bits = 8 * size / elements
                found.append(Cost(group, form, bits, round(bits * count / 8), errors / len(made)))
    return tuple(found)


def _part(tensor: Tensor) -> Tensor:
    """Return the first rows of a tensor."""
    rows = tensor.reshape(tensor.shape[0], -1)
    return rows[: max(1, _SAMPLE // max(1, rows.shape[1]))].contiguous()


def _cost(tensor: Tensor, form: str) -> tuple[int, int, float] | None:
    """Return bytes, elements and root mean square error, or None if the form does not fit the tensor."""
    name, dtype = "a sample", dtypes.dtype_name(tensor.dtype)
    wanted, _, error = form.partition("@")
    if dtype not in codings.DTYPES[wanted] or not bool(tensor.isfinite().all()):
        return None
    if wanted in codings.NARROW:
        codes = forms.narrowed(name, tensor, wanted)
        decoded, parts = codes.to(tensor.dtype), {"codes": codes}
    elif wanted in codings.BLOCKS:
        decoded, parts = forms.blocks(name, tensor, dtype, wanted)
    else:
        made = forms.trellis(name, tensor, dtype, float(error))
        if made is None:
            return None
        decoded, parts = made
    return _size(parts.values()), tensor.numel(), forms.errors(tensor, decoded)[2]


def _size(parts: Iterable[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in parts)
