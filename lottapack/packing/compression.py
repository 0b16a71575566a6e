"""Compression: the form in which pack() stores what was trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import torch

from lottapack.codecs import CODECS, Narrow, Trellis8
from lottapack.errors import CheckpointError
from lottapack.format import dtypes
from lottapack.limits import bytes_of
from lottapack.nn.select import GROUP_WORDS

GROUPS = {**GROUP_WORDS, "buffers": "buffer", "adapters": "adapter"}
"""The groups' names for callers, and in the descriptor."""
ALL = "*"
CHOSEN = dict.fromkeys(Trellis8.groups, Trellis8.id)
"""The groups that max_error or max_size alone apply to: all large ones; norms and biases keep their exact values."""
DEFAULT_ERROR = 0.01
"""The default root mean square error of ``trellis8``, relative to the tensor's own root mean square."""
_NARROW = tuple(codec.id for codec in CODECS.values() if isinstance(codec, Narrow))


@dataclass(frozen=True, slots=True)
class Compression:
    """Choose in which form a pack stores what was trained. By default it stores every bit.

    Errors apply to a whole tensor: they are root mean squares, relative to the tensor's own. ``PackResult.kept`` lists
    them with the largest error of an element.

    Args:
        dtype: keep tensors that were trained in float32 (adapters too) as ``torch.float16`` or ``torch.bfloat16``, or
            their names. A parameter gets its own dtype back when it is loaded. Buffers and betas stay as they are.
        coding: the id of a coding, for the groups that it is meant for: ``"trellis8"`` (adapters, embeddings, heads and
            the rest), ``"int8-block64"`` and ``"normal4-block64"`` (embeddings), ``"planes-zlib"`` (everything; it
            loses nothing). ``"trellis8@0.02"`` names the error of this coding. Or ids by group:
            ``{"adapters": "trellis8@0.02", "heads": "int8-block64"}``; groups are those of `scaffold`, ``adapters``,
            ``buffers`` and ``*``. Or by pattern of tensors' names, such as ``"layers.5.*"``: the first pattern that
            matches goes before the group. A tensor that does not become smaller stays as it is.
        max_error: the largest error of a tensor, above 0 and below 1. ``trellis8`` aims at it, unless it names its own;
            `pack` refuses any other form that exceeds it. Without ``coding``, it asks for ``"trellis8"``.
        max_size: the largest pack: bytes, or text such as ``"16MB"``. `pack` finds the least error of ``trellis8`` for
            it. It asks for ``"trellis8"`` for adapters, embeddings, heads and the rest, where ``coding`` does not name
            them. It excludes ``max_error``.

    Raises:
        CheckpointError: an unknown dtype, coding or group, or an error out of range.
        UnsupportedError: ``max_size`` is not a size.

    Source:
        spec/v1/codings.md.

    Examples:
        >>> lottapack.Compression(dtype="float16", coding={"embeddings": "int8-block64"}, max_error=0.02)
        Compression(dtype='float16', coding={'embeddings': 'int8-block64'}, max_error=0.02, max_size=None)
    """

    dtype: torch.dtype | str | None = None
    coding: str | Mapping[str, str] | None = None
    max_error: float | None = None
    max_size: int | str | None = None

    def __post_init__(self) -> None:
        if self.dtype_name is not None and self.dtype_name not in _NARROW:
            raise CheckpointError(
                f"cannot store what was trained as dtype={self.dtype_name}",
                hint=f"Pass {' or '.join(_NARROW)}, or leave out `dtype` to keep the trained dtype.",
            )
        _check_error(f"`max_error={self.max_error!r}`", self.max_error)
        if self.max_size is not None:
            bytes_of(self.max_size, "max_size")
        if self.max_size is not None and self.max_error is not None:
            raise CheckpointError("`max_size` and `max_error` exclude each other", hint="Leave one of them out.")
        if not isinstance(self.coding, str | Mapping | None):
            raise CheckpointError(
                f"coding={self.coding!r} must be an id, or ids by group",
                hint=f"The groups are {', '.join((*GROUPS, ALL))}.",
            )
        for group, coding in self.by_group.items():
            _check_coding(group, coding)

    @property
    def dtype_name(self) -> str | None:
        """The dtype by its name in the format."""
        return None if self.dtype is None else dtypes.dtype_name(self.dtype)

    @property
    def by_group(self) -> dict[str, str]:
        """The codings by group or pattern, with their errors."""
        named = self._named
        chosen = (not named and self.max_error is not None) or self.max_size is not None
        return {**CHOSEN, **named} if chosen and ALL not in named else named

    @property
    def defaults(self) -> frozenset[str]:
        """The keys of by_group that the caller did not name, so that a pack may lack them."""
        by_default = isinstance(self.coding, str) and self.coding.startswith(Trellis8.id)
        return frozenset(self.by_group if by_default else self.by_group.keys() - self._named.keys())

    @property
    def _named(self) -> dict[str, str]:
        if isinstance(self.coding, str) and self.coding:
            codec = CODECS.get(self.coding.partition("@")[0], Trellis8)
            return dict.fromkeys(codec.groups, self.coding)
        return dict(self.coding or {})


def is_pattern(key: str) -> bool:
    """Return whether a key of ``coding`` is a pattern of tensors' names."""
    return key != ALL and any(sign in key for sign in ".*?[")


def _check_coding(group: str, given: object) -> None:
    wanted, at, error = given.partition("@") if isinstance(given, str) else (given, "", "")
    if at:
        aims = wanted in CODECS and CODECS[wanted].aims
        _check_error(f"coding={given!r}", _number(error) if aims else math.nan)
    known = tuple(coding for coding in CODECS if coding not in _NARROW)
    if wanted not in known:
        hint = "Pass narrower numbers as `dtype`." if wanted in _NARROW else f"Pass one of {', '.join(known)}."
        raise CheckpointError(f"unknown coding {wanted!r}", hint=hint)
    if group not in (*GROUPS, ALL) and not (isinstance(group, str) and is_pattern(group)):
        raise CheckpointError(
            f"unknown group {group!r} for a coding",
            hint=f"Pass one of {', '.join((*GROUPS, ALL))}, or a pattern of tensors' names with a point or a star, "
            "such as layers.5.*",
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check_error(said: str, error: object) -> None:
    if error is not None and not (isinstance(error, Real) and 0 < float(error) < 1):
        raise CheckpointError(
            f"{said}: an error must be a number above 0 and below 1, relative to a tensor's root mean square",
            hint=f"Pass, for example, `max_error=0.01`, or {Trellis8.id}@0.01 for one group.",
        )
