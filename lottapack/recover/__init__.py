"""Recover checkpoints without a recipe: each function finds what a seed generates, and returns what `pack` takes."""

from lottapack.packing.recovered import Layer, Recovered
from lottapack.recover.merged_weights import merged
from lottapack.recover.torch_draws import torch_cpu

__all__ = ["Layer", "Recovered", "merged", "torch_cpu"]
