"""Layers with a generated backbone and an adapter, and scaffold(), which puts them into a model."""

from lottapack.nn.attach import is_scaffolded, recipe_of
from lottapack.nn.controls import RedrawBackbone, put_backbone_, zero_backbone_
from lottapack.nn.layers import AdaptedConv1d, AdaptedConv2d, AdaptedEmbedding, AdaptedLinear, AdapterLayer
from lottapack.nn.local import exclude_from_ddp
from lottapack.nn.regenerating import regenerate_
from lottapack.nn.scaffolding import scaffold
from lottapack.nn.switching import active_scaffold, scaffolds_of, switch

__all__ = [
    "AdaptedConv1d",
    "AdaptedConv2d",
    "AdaptedEmbedding",
    "AdaptedLinear",
    "AdapterLayer",
    "RedrawBackbone",
    "active_scaffold",
    "exclude_from_ddp",
    "is_scaffolded",
    "put_backbone_",
    "recipe_of",
    "regenerate_",
    "scaffold",
    "scaffolds_of",
    "switch",
    "zero_backbone_",
]
