"""Layers with a generated backbone and an adapter, and scaffold(), which puts them into a model."""

from lottapack.nn.attach import is_scaffolded, recipe_of, regenerate_
from lottapack.nn.layers import AdaptedConv1d, AdaptedConv2d, AdaptedEmbedding, AdaptedLinear, AdapterLayer
from lottapack.nn.scaffolding import scaffold

__all__ = [
    "AdaptedConv1d",
    "AdaptedConv2d",
    "AdaptedEmbedding",
    "AdaptedLinear",
    "AdapterLayer",
    "is_scaffolded",
    "recipe_of",
    "regenerate_",
    "scaffold",
]
