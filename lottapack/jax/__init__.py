"""Merged weights and random tensors as JAX arrays, in parts by device. Extra: ``jax``."""

from lottapack.jax.drawing import draw as draw
from lottapack.jax.loading import load as load

__all__ = ["draw", "load"]
