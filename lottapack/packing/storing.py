"""How pack() keeps what was trained: narrower, in blocks, compressed; and how near that is to what it was."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real

import msgspec
import numpy as np
import torch
from torch import Tensor

from lottapack.errors import CheckpointError, UnusedOptionWarning
from lottapack.format import codings, dtypes
from lottapack.format.descriptor import Coding, Stored, TensorRecord
from lottapack.format.encoding import encode_blocks, planes
from lottapack.format.recipe import StoredRecipe
from lottapack.nn.select import GROUP_WORDS
from lottapack.weights.rebuild import tensor_bytes

GROUPS = {**GROUP_WORDS, "buffers": "buffer"}
ALL = "*"
_LOSSY_DEFAULT = "embeddings"
_ENTRY = 128
"""Bytes, or nearly, that a coding takes in the descriptor and the header; what saves less is left out."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One tensor that the pack keeps in another form. Sizes in bytes.

    ``form``: the id of its coding; for a tensor of an adapter its new dtype. ``worst`` and ``mean``: the largest and
    the mean error of an element, as parts of the tensor's root mean square; 0 where nothing is lost.
    """

    name: str
    group: str
    form: str
    size_before: int
    size: int
    worst: float
    mean: float


@dataclass
class Storage:
    """What pack() was asked for, and what came of it.

    ``stored_dtype``: ``float16``, ``bfloat16`` or None; ``coding``: codings by group word or ``*``.
    """

    stored_dtype: str | None = None
    coding: dict[str, str] = field(default_factory=dict)
    tolerance: float | None = None
    kept: list[Kept] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)  # of what was stored

    def coding_for(self, group: str) -> str | None:
        """The coding of a group, or None."""
        word = _word(group)
        return self.coding.get(word, self.coding.get(ALL))

    def entry(
        self, name: str, tensor: Tensor, recipe: StoredRecipe, keep: Callable[[str, Tensor], TensorRecord]
    ) -> Stored:
        """The descriptor's entry of a stored parameter. ``keep``: puts a tensor into the file, and says its hash.

        Raises CheckpointError for values that the form asked for cannot hold.
        """
        tensor = tensor.detach().cpu().contiguous()
        shape, dtype = tuple(tensor.shape), dtypes.dtype_name(tensor.dtype)
        decoded, form, parts = self._parameter(name, tensor, dtype, recipe.group)
        if form:
            hashes = {part: keep(f"{name}.{part}", coded).sha256 for part, coded in parts.items()}
            coding: Coding | msgspec.UnsetType = Coding(id=form, **hashes)
            sha256 = hashlib.sha256(tensor_bytes(decoded)).hexdigest()
        else:
            coding, sha256 = msgspec.UNSET, keep(name, tensor).sha256
        return Stored(
            shape=shape, dtype=dtype, group=recipe.group, trained=recipe.trained, sha256=sha256, coding=coding
        )

    def _parameter(self, name: str, tensor: Tensor, dtype: str, group: str) -> tuple[Tensor, str, dict[str, Tensor]]:
        """The parameter as it will be decoded, the id of its coding or nothing, and its coded tensors by part."""
        before = tensor.numel() * tensor.element_size()
        wanted = self.coding_for(group)
        narrow = self.stored_dtype if dtype == "float32" and group != "buffer" else None
        choices: list[tuple[str, Tensor, dict[str, Tensor]]] = []
        if wanted in codings.BLOCKS and dtype in codings.DTYPES[wanted]:
            choices.append((wanted, *_blocks(name, tensor, dtype, wanted)))
        else:
            decoded = tensor
            if narrow:
                codes = _narrowed(name, tensor, narrow)
                decoded = codes.to(tensor.dtype)
                choices.append((narrow, decoded, {"codes": codes}))
            if wanted == codings.PLANES:
                choices.append((wanted, decoded, {"codes": _planes(decoded)}))
        if choices:
            form, decoded, parts = min(choices, key=lambda choice: _size(choice[2]))
            if _size(parts) + _ENTRY <= before:
                self._note(name, group, form, tensor, decoded, _size(parts))
                return decoded, form, parts
        return tensor, "", {}

    def adapter(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of an adapter as it is kept. Betas are one number a layer, and stay as they are."""
        tensor = tensor.detach().cpu().contiguous()
        narrow = self.stored_dtype
        if narrow is None or tensor.dtype != torch.float32 or name.endswith("beta"):
            return tensor
        made = _narrowed(name, tensor, narrow)
        self._note(name, "adapter", narrow, tensor, made.float(), made.numel() * made.element_size())
        return made

    def check(self) -> None:
        """Raise CheckpointError if an error is over the tolerance, or a coding is for a group that is not stored."""
        stored = [word for word, group in GROUPS.items() if group in self.groups]
        for word, form in self.coding.items():
            if word not in (ALL, *stored):
                raise CheckpointError(
                    f"coding: the pack stores no {word}, so {form} for them changes nothing",
                    hint=f"It stores {', '.join(stored) or 'no parameters'}. Name one of these groups, or leave the "
                    "coding (--coding) out.",
                )
        over = [kept for kept in self.kept if self.tolerance is not None and kept.worst > self.tolerance]
        if over:
            worst = max(over, key=lambda kept: kept.worst)
            more = f", and {len(over) - 1} more tensors are over it" if len(over) > 1 else ""
            raise CheckpointError(
                f"{worst.name} as {worst.form} would be off by up to {worst.worst:.3g} of its root mean square; the "
                f"tolerance is {self.tolerance:g}{more}",
                hint="Nothing was written. Choose a finer coding, other groups, or a larger tolerance.",
            )

    def warn_of_unused(self) -> None:
        """Warn the caller of pack() of what was asked for and changed nothing."""
        said = [
            f"coding {word}={form} changed nothing: no tensor of the group becomes smaller by it"
            for word, form in self.coding.items()
            if not any(kept.form == form and word in (ALL, _word(kept.group)) for kept in self.kept)
        ]
        if self.stored_dtype and not any(kept.form == self.stored_dtype for kept in self.kept):
            said.append(f"stored_dtype={self.stored_dtype} changed nothing: no float32 tensor becomes smaller by it")
        for line in said:
            warnings.warn(line, UnusedOptionWarning, stacklevel=4)

    def _note(self, name: str, group: str, form: str, before: Tensor, after: Tensor, size: int) -> None:
        worst, mean = errors(before, after)
        self.kept.append(Kept(name, group, form, before.numel() * before.element_size(), size, worst, mean))


def _word(group: str) -> str:
    """What a caller calls a group."""
    return next((word for word, of in GROUPS.items() if of == group), ALL)


def storage(
    stored_dtype: "torch.dtype | str | None", coding: "str | Mapping[str, str] | None", tolerance: float | None
) -> Storage:
    """Check what a caller asks for. Raises CheckpointError.

    Args:
        stored_dtype: torch.float16, torch.bfloat16 or their names.
        coding: an id, for the groups that it is meant for (the embeddings, or all if nothing is lost); or ids by group.
        tolerance: the largest error allowed.
    """
    dtype = dtypes.dtype_name(stored_dtype) if isinstance(stored_dtype, torch.dtype) else stored_dtype
    if dtype is not None and dtype not in codings.NARROW:
        raise CheckpointError(
            f"stored_dtype={dtype}: what was trained can be kept as {' or '.join(codings.NARROW)}",
            hint="Leave it out to keep it as it was trained.",
        )
    if tolerance is not None and not (isinstance(tolerance, Real) and math.isfinite(tolerance) and tolerance >= 0):
        raise CheckpointError(f"tolerance={tolerance!r}: a number from 0 on, as part of a tensor's root mean square")
    if tolerance is not None and dtype is None and not coding:
        raise CheckpointError(
            "tolerance without stored_dtype or coding changes nothing", hint="Without these, what is stored is exact."
        )
    if isinstance(coding, str):
        coding = {ALL if coding == codings.PLANES else _LOSSY_DEFAULT: coding}
    if not isinstance(coding, Mapping | None):
        raise CheckpointError(
            f"coding={coding!r}: an id, or ids by group", hint=f"Groups: {', '.join((*GROUPS, ALL))}."
        )
    by_group = dict(coding or {})
    known = (*codings.BLOCKS, codings.PLANES)
    for group, wanted in by_group.items():
        if wanted not in known:
            hint = "Narrower numbers are stored_dtype." if wanted in codings.NARROW else ""
            raise CheckpointError(f"the coding {wanted!r} is unknown; known: {', '.join(known)}", hint=hint)
        _check_group(group)
    return Storage(dtype, by_group, tolerance)


def _check_group(group: str) -> None:
    if group not in (*GROUPS, ALL):
        raise CheckpointError(f"there is no group {group!r} to code; known: {', '.join((*GROUPS, ALL))}")


def errors(before: Tensor, after: Tensor) -> tuple[float, float]:
    """The largest and the mean error of an element, as parts of the root mean square of ``before``."""
    if not before.numel() or not before.is_floating_point() or before is after:
        return 0.0, 0.0
    worst, total, squares = 0.0, 0.0, 0.0
    for old, new in zip(_pieces(before), _pieces(after), strict=True):
        wide = old.double()
        difference = (new.double() - wide).abs_()
        worst = max(worst, float(difference.max()))
        total += float(difference.sum())
        squares += float(wide.square_().sum())
    size = math.sqrt(squares / before.numel())
    if worst == 0:
        return 0.0, 0.0
    return (worst / size, total / before.numel() / size) if size else (math.inf, math.inf)


def _pieces(tensor: Tensor) -> Iterable[Tensor]:
    return torch.split(tensor.reshape(-1), 1 << 18)


def _blocks(name: str, tensor: Tensor, dtype: str, coding: str) -> tuple[Tensor, dict[str, Tensor]]:
    values = tensor.reshape(-1).float()
    _require_finite(name, values, coding)
    try:
        codes, scales = encode_blocks(values.numpy(), dtype, coding)
    except ValueError as fault:
        raise CheckpointError(f"{name} {fault} in {coding}", hint="Keep it as it is.") from fault
    decoded = torch.empty_like(tensor)
    out = memoryview(tensor_bytes(decoded) or bytearray())
    entry = Stored(shape=tuple(tensor.shape), dtype=dtype, group="other", trained=True, sha256="")
    codings.decode_into(entry, Coding(id=coding, codes=""), {"codes": codes.data, "scales": scales.data}, out)
    halves = torch.from_numpy(scales.view(np.float16))
    return decoded, {"codes": torch.from_numpy(codes), "scales": halves}


def _narrowed(name: str, tensor: Tensor, dtype: str) -> Tensor:
    _require_finite(name, tensor, dtype)
    made = tensor.to(dtypes.torch_dtype(dtype))
    if not bool(made.isfinite().all()):
        largest = float(tensor.abs().max())
        raise CheckpointError(
            f"{name} holds {largest:.6g}, which is beyond {dtype}",
            hint="Nothing was written. bfloat16 has the range of float32.",
        )
    return made


def _require_finite(name: str, tensor: Tensor, form: str) -> None:
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{name} holds infinity or NaN, which {form} does not keep", hint=f"Use {codings.PLANES}, or train again."
        )


def _planes(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    stream = bytearray(planes(flat, tensor.element_size()))
    return torch.frombuffer(stream, dtype=torch.uint8)


def _size(parts: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in parts.values())
