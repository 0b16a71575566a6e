"""The matrices that a weight with an adapter consists of, and the shapes of their factors (spec: descriptor, 4)."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, Protocol

from lottapack.format.shapes import numel

MOST_RANK = 4096
"""The largest rank of factors with vectors (VeRA), if the sides of the matrix are smaller."""

BY_INPUT = ("lora_A", "scale_in")
"""The tensors of an adapter with a place for each input."""
BY_OUTPUT = ("lora_B", "magnitude", "lambda_b", "scale_out")
"""The tensors of an adapter with a place for each output."""


class Factors(NamedTuple):
    """A weight seen as matrices of ``d_out`` outputs and ``d_in`` inputs: one, or one for each index in ``batch``."""

    batch: tuple[int, ...]
    d_out: int
    d_in: int

    @property
    def most(self) -> int:
        """The largest rank of an adapter whose factors are learned."""
        return min(self.d_out, self.d_in)

    @property
    def most_with_vectors(self) -> int:
        """The largest rank of an adapter that learns a number for each rank: more than the sides has an effect."""
        return max(self.most, MOST_RANK)

    def shapes(self, rank: int, shared_factor: object = None) -> dict[str, tuple[int, ...]]:
        """Return the shapes of an adapter's tensors, by their last name."""
        batch_a, batch_b = (() if shared_factor == factor else self.batch for factor in ("lora_A", "lora_B"))
        return {
            "lora_A": (*batch_a, rank, self.d_in),
            "lora_B": (*batch_b, self.d_out, rank),
            "beta": (1,),
            "magnitude": (*self.batch, self.d_out),
            "lambda_b": (*self.batch, self.d_out),
            "lambda_d": (*self.batch, rank),
            "scale_in": (*self.batch, self.d_in),
            "scale_out": (*self.batch, self.d_out),
        }


class HasAdapter(Protocol):
    """An entry with an adapter, of a descriptor or a recipe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight."""

    @property
    def rank(self) -> int:
        """The rank of the adapter."""

    @property
    def fan_in_fan_out(self) -> bool:
        """Whether inputs come first."""

    @property
    def batch_dims(self) -> object:
        """The number of leading dimensions that count matrices; unset without any."""

    @property
    def shared_factor(self) -> object:
        """The factor that all matrices have in common; unset without one."""


def factors(shape: tuple[int, ...], fan_in_fan_out: bool, batch_dims: int = 0) -> Factors:
    """Return the matrices of a weight: the first dimension after the batch by the product of the rest."""
    batch, first, rest = shape[:batch_dims], shape[batch_dims], numel(shape[batch_dims + 1 :])
    return Factors(batch, rest, first) if fan_in_fan_out else Factors(batch, first, rest)


def factors_of(entry: HasAdapter) -> Factors:
    """Return the matrices of a weight with an adapter."""
    return factors(entry.shape, entry.fan_in_fan_out, batch_dims_of(entry))


def adapter_shapes(entry: HasAdapter) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors that an entry's adapter can have, by their last name."""
    return _shapes(entry.shape, entry.fan_in_fan_out, batch_dims_of(entry), entry.rank, entry.shared_factor)


@lru_cache(maxsize=1024)
def _shapes(
    shape: tuple[int, ...], fan_in_fan_out: bool, batch_dims: int, rank: int, shared_factor: object
) -> Mapping[str, tuple[int, ...]]:
    """Weights of one model have few shapes."""
    return MappingProxyType(factors(shape, fan_in_fan_out, batch_dims).shapes(rank, shared_factor))


def batch_dims_of(entry: HasAdapter) -> int:
    """Return the number of leading dimensions that count matrices."""
    return entry.batch_dims if isinstance(entry.batch_dims, int) else 0
