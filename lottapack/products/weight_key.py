"""The key of a generated weight for torch's operators: one string, which is parsed once.

Operators take tensors, numbers and strings, and each argument costs time at each call.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from lottapack import rng
from lottapack.products.product import Matrix


class WeightKey(NamedTuple):
    """The fields of a key. ``distribution``: the table's id. The others are those of rng.Source, and the shape.

    ``through``: the dtypes that the weight is rounded to, one after the other, after it is drawn in ``dtype``.
    """

    distribution: str
    seed: int
    scale: float
    dtype: str
    through: tuple[str, ...]
    shape: tuple[int, ...]
    name: str


def weight_key(source: rng.Source, shape: Sequence[int], through: Sequence[torch.dtype] = ()) -> str:
    """Return the key of a weight of ``shape`` that ``source`` generates, rounded ``through`` some dtypes."""
    sizes = "x".join([str(size) for size in shape])
    kinds = ",".join([source.dtype, *(str(kind).removeprefix("torch.") for kind in through)])
    return f"{source.table.id} {source.seed} {source.scale!r} {kinds} {sizes} {source.name}"


@lru_cache(maxsize=4096)
def parsed(key: str) -> WeightKey:
    """Return the fields of a key from weight_key()."""
    distribution, seed, scale, kinds, sizes, name = key.split(" ", 5)
    dtype, *through = kinds.split(",")
    shape = tuple(map(int, sizes.split("x")))
    return WeightKey(distribution, int(seed), float(scale), dtype, tuple(through), shape, name)


def matrix_of(key: str, table: Tensor | None) -> Matrix:
    """Return the weight of a key as a matrix. ``table``: the values of a distribution that is not built in."""
    return _matrix(key, None if table is None else _Values(table))


class _Values:
    """The values of a table; two are equal if they are the same tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __hash__(self) -> int:
        return id(self.tensor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Values) and self.tensor is other.tensor


@lru_cache(maxsize=4096)
def _matrix(key: str, table: _Values | None) -> Matrix:
    fields = parsed(key)
    distribution = fields.distribution
    values = rng.builtin(distribution) if table is None else rng.custom(distribution, table.tensor.cpu().numpy())
    source = rng.Source(fields.seed, fields.name, values, fields.scale, fields.dtype)
    through = tuple(getattr(torch, kind) for kind in fields.through)
    return Matrix(source, (fields.shape[0], prod(fields.shape[1:])), through)
