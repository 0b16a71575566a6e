"""Store what was trained: narrower, in blocks, or compressed, and measure the error."""

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import torch
from torch import Tensor

from lottapack.codecs import CODECS
from lottapack.errors import CheckpointError, UnusedOptionWarning
from lottapack.format import dtypes
from lottapack.format.descriptor import LAMBDAS, SCALES, Coding, Stored, TensorRecord
from lottapack.format.recipe import StoredRecipe
from lottapack.nn.select import matches
from lottapack.packing.compression import ALL, DEFAULT_ERROR, GROUPS, Compression, is_pattern
from lottapack.packing.forms import coded, errors, size_of
from lottapack.weights.rebuild import tensor_bytes

_ENTRY = 128
"""About the bytes that a coding takes in the descriptor and the header; a smaller saving is not worth it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A tensor that the pack stores in another form. Sizes are in bytes.

    ``form``: the id of its coding, or the new dtype of a tensor of an adapter. ``worst``, ``mean`` and ``rms``: the
    largest, mean and root mean square error of an element, relative to the tensor's root mean square; 0 if lossless.
    ``numel``: the number of elements.
    """

    name: str
    group: str
    form: str
    size_before: int
    size: int
    worst: float
    mean: float
    rms: float = 0.0
    numel: int = 0

    @property
    def bits(self) -> float:
        """The bits of an element in the file."""
        return 8 * self.size / self.numel if self.numel else 0.0


@dataclass
class Storage:
    """The requested forms, and what was stored.

    ``dtype``: ``float16``, ``bfloat16`` or None; ``coding``: codings by group word, pattern of names or ``*``, with the
    error of those that have one behind an ``@``; ``max_error``: that of the others; ``bound``: the largest that a
    tensor may have. ``defaults``: the keys of ``coding`` that the caller did not name, and that may match nothing.
    """

    dtype: str | None = None
    coding: dict[str, str] = field(default_factory=dict)
    bound: float | None = None
    max_error: float | None = None
    kept: list[Kept] = field(default_factory=list)
    defaults: frozenset[str] = frozenset()
    groups: set[str] = field(default_factory=set)  # of what was stored
    used: set[str] = field(default_factory=set)  # patterns that named a tensor
    seen: dict[str, list[Tensor]] = field(default_factory=dict)  # by group word, what a coding was looked for

    @classmethod
    def of(cls, wanted: Compression) -> "Storage":
        """Return the storage that a caller asks for."""
        error = DEFAULT_ERROR if wanted.max_size is not None else wanted.max_error
        return cls(wanted.dtype_name, wanted.by_group, wanted.max_error, error, defaults=wanted.defaults)

    def again(self, max_error: float) -> "Storage":
        """Return the same request with another error and an empty outcome."""
        return Storage(self.dtype, self.coding, self.bound, max_error, defaults=self.defaults)

    def coding_for(self, group: str, name: str) -> tuple[str | None, float]:
        """Return the coding of a tensor, or None; and the error that it may have.

        The first pattern that names the tensor counts, then its group, then ``*``.
        """
        key = next((key for key in self.coding if is_pattern(key) and matches(key, name)), _word(group))
        self.used.add(key)
        wanted = self.coding.get(key, self.coding.get(ALL))
        form, _, error = (wanted or "").partition("@")
        return form or None, float(error or self.max_error or DEFAULT_ERROR)

    def entry(
        self, name: str, tensor: Tensor, recipe: StoredRecipe, keep: Callable[[str, Tensor], TensorRecord]
    ) -> Stored:
        """Return the descriptor's entry of a stored parameter.

        ``keep``: puts a tensor into the file and returns its record.

        Raises CheckpointError for values that the requested form cannot hold.
        """
        tensor = tensor.detach().cpu().contiguous()
        shape, dtype = tuple(tensor.shape), dtypes.dtype_name(tensor.dtype)
        narrow = self.dtype if dtype == "float32" and recipe.group != "buffer" else None
        record = self._kept(name, tensor, recipe.group, narrow, keep)
        return Stored(
            shape=shape,
            dtype=dtype,
            group=recipe.group,
            trained=recipe.trained,
            sha256=record.sha256,
            coding=record.coding,
        )

    def _kept(
        self, name: str, tensor: Tensor, group: str, narrow: str | None, keep: Callable[[str, Tensor], TensorRecord]
    ) -> TensorRecord:
        """Put a tensor into the file, coded if that is requested and makes it smaller."""
        dtype = dtypes.dtype_name(tensor.dtype)
        decoded, form, parts = self._coded(name, tensor, dtype, group, narrow)
        if not form:
            return keep(name, tensor)
        hashes = {part: keep(f"{name}.{part}", coded).sha256 for part, coded in parts.items()}
        sha256 = hashlib.sha256(tensor_bytes(decoded)).hexdigest()
        return TensorRecord(
            dtype=dtype,
            sha256=sha256,
            coding=Coding(id=form, codes=hashes["codes"], scales=hashes.get("scales", msgspec.UNSET)),
        )

    def _coded(
        self, name: str, tensor: Tensor, dtype: str, group: str, narrow: str | None
    ) -> tuple[Tensor, str, dict[str, Tensor]]:
        """Return the tensor as decoded, the id of its coding or an empty text, and its coded tensors by part."""
        before = tensor.numel() * tensor.element_size()
        wanted, error = self.coding_for(group, name)
        if wanted:
            self.seen.setdefault(_word(group), []).append(tensor)
        codec = CODECS.get(wanted or "")
        lossy = codec is not None and not codec.exact and codec.fits(dtype)
        choices: list[tuple[str, Tensor, dict[str, Tensor]]] = []
        decoded = tensor
        if codec and lossy and (made := coded(codec, name, tensor, error)):
            choices.append((codec.id, *made))
        alone = codec is not None and lossy and codec.replaces_dtype
        if narrow and not alone and (made := coded(CODECS[narrow], name, tensor, 0)):
            choices.append((narrow, *made))
            decoded = made[0]
        if codec and codec.exact and (made := coded(codec, name, decoded, 0)):
            choices.append((codec.id, *made))
        if choices:
            form, decoded, parts = min(choices, key=lambda choice: size_of(choice[2]))
            if size_of(parts) + _ENTRY <= before:
                self._note(name, group, form, tensor, decoded, size_of(parts))
                return decoded, form, parts
        return tensor, "", {}

    def adapter(self, name: str, tensor: Tensor, keep: Callable[[str, Tensor], TensorRecord]) -> TensorRecord:
        """Return the record of a tensor of an adapter. Betas and vectors that multiply others are never coded.

        A tensor that no coding makes smaller is stored in ``dtype``, which is then its own dtype.
        """
        tensor = tensor.detach().cpu().contiguous()
        self.groups.add("adapter")
        if name.endswith(("beta", *LAMBDAS, *SCALES)):
            return keep(name, tensor)
        wanted, _ = self.coding_for("adapter", name)
        lossy = wanted is not None and not CODECS[wanted].exact
        if lossy and isinstance((record := self._kept(name, tensor, "adapter", None, keep)).coding, Coding):
            return record
        if self.dtype and tensor.dtype == torch.float32:
            made = coded(CODECS[self.dtype], name, tensor, 0)
            assert made is not None
            self._note(name, "adapter", self.dtype, tensor, made[0], size_of(made[1]))
            tensor = made[1]["codes"]
        return keep(name, tensor) if lossy else self._kept(name, tensor, "adapter", None, keep)

    def check(self) -> None:
        """Raise CheckpointError if an error exceeds its bound, or a coding's group is not in the pack."""
        stored = [word for word, group in GROUPS.items() if group in self.groups]
        for word, form in self.coding.items():
            if is_pattern(word):
                if word not in self.used:
                    raise CheckpointError(
                        f"coding: {word!r} decides nothing: it matches no stored tensor, or a pattern before it does",
                        hint="Use a name of the state_dict, such as 1.lora_A, or a pattern such as layers.5.*",
                    )
            elif word not in (ALL, *stored, *self.defaults):
                raise CheckpointError(
                    f"coding {form} for {word} has no effect: the pack does not store {word}",
                    hint=f"It stores {', '.join(stored) or 'no parameters'}. Name one of these groups, or leave the "
                    "coding out.",
                )
        over = [kept for kept in self.kept if kept.rms > self._bound(kept)]
        if over:
            worst = max(over, key=lambda kept: kept.rms)
            more = f", and {len(over) - 1} more tensors are over it" if len(over) > 1 else ""
            raise CheckpointError(
                f"{worst.name} as {worst.form} would have a relative root mean square error of {worst.rms:.3g}, but "
                f"max_error is {self.bound:g}{more}",
                hint="Nothing was written. Choose a finer coding, other groups, or a larger max_error.",
            )

    def _bound(self, kept: Kept) -> float:
        """Return the largest error that a tensor may have. ``trellis8`` limits its own."""
        return math.inf if self.bound is None or CODECS[kept.form].aims else self.bound

    def warn_of_unused(self) -> None:
        """Warn the caller of pack() of requested forms that had no effect."""
        warned = [
            f"coding {word}={form} had no effect: it does not make any tensor of the group smaller"
            for word, form in self.coding.items()
            if word not in self.defaults
            and not any(kept.form == form.partition("@")[0] and _covers(word, kept) for kept in self.kept)
        ]
        if self.defaults and self.defaults == set(self.coding) and not self.kept:
            warned.append("the coding had no effect: it does not make any tensor of the pack smaller")
        if self.dtype and not any(kept.form == self.dtype for kept in self.kept):
            warned.append(f"dtype={self.dtype} had no effect: it does not make any float32 tensor smaller")
        for line in warned:
            warnings.warn(line, UnusedOptionWarning, stacklevel=4)

    def _note(self, name: str, group: str, form: str, before: Tensor, after: Tensor, size: int) -> None:
        size_before = before.numel() * before.element_size()
        self.kept.append(Kept(name, group, form, size_before, size, *errors(before, after), before.numel()))


def _covers(key: str, kept: Kept) -> bool:
    """Return whether a key of ``coding`` may have decided a tensor's form."""
    return matches(key, kept.name) if is_pattern(key) else key in (ALL, _word(kept.group))


def _word(group: str) -> str:
    """Return the caller's name of a group."""
    return next((word for word, of in GROUPS.items() if of == group), ALL)
