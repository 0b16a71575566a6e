"""The five Llamas of the paper (arXiv 2604.08749): shapes, sizes in its Table 10, and states like trained ones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lottapack.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from lottapack.format.recipe import ParameterRecipe, Recipe

VOCABULARY: Final = 32_000
RANK: Final = 8
ALPHA: Final = 16.0
_SEED: Final = 42
_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Llama:
    """The shape of a scale. ``fp16``, ``four_bit`` and ``lottalora``: the sizes in the paper's Table 10, in MiB.

    (The table says MB, but its own counts show MiB.) Embeddings are tied; q, k, v and o have adapters of rank 8.
    """

    layers: int
    width: int
    heads: int
    mlp: int
    fp16: int
    four_bit: int
    lottalora: int


LLAMAS: Final = {
    "3M": Llama(6, 64, 4, 192, 5, 1, 4),
    "30M": Llama(10, 384, 6, 1024, 57, 16, 24),
    "300M": Llama(22, 1024, 16, 2816, 586, 165, 103),
    "600M": Llama(30, 1344, 21, 3584, 1184, 333, 105),
    "900M": Llama(34, 1664, 26, 4608, 2312, 650, 109),
}
"""The shapes by the paper's names. (The last one has about 1.2 billion parameters.)"""


def scale_of(config: "dict[str, Any]") -> str | None:
    """Return the name of the Llama that has a configuration's shape, or None."""
    for name, shape in LLAMAS.items():
        expected = {
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.width,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.mlp,
            "vocab_size": VOCABULARY,
            "tie_word_embeddings": True,
        }
        if expected.items() <= config.items():
            return name
    return None


def empty_llama(shape: Llama) -> "nn.Module":
    """Return the plain model of a shape on the meta device. Raises UnsupportedError without transformers."""
    transformers = require("transformers", "transformers", "the table of Llamas")
    import torch

    config = transformers.LlamaConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model: nn.Module = transformers.LlamaForCausalLM(config)
    return model


def trained_state(shape: Llama, *, adapted_embeddings: bool = False) -> "dict[str, Tensor]":
    """Return what a training checkpoint of a scaffolded Llama holds, without training and without its backbone.

    All that would be trained is drawn: embeddings and adapters normal, norms and betas near 1, in float32. Its pack has
    the size of a trained one. ``adapted_embeddings``: the embeddings are random too, with an adapter.

    Raises UnsupportedError without transformers.
    """
    import torch

    from lottapack.format.recipe import BUFFER

    model = empty_llama(shape)
    recipe = _recipe(model, adapted_embeddings)
    draws = torch.Generator("cpu").manual_seed(_SEED)
    state = {BUFFER: torch.frombuffer(bytearray(recipe.to_bytes()), dtype=torch.uint8)}
    for name, size, near, spread in _trained(model, recipe):
        state[name] = torch.randn(size, generator=draws, dtype=torch.float32, device="cpu").mul_(spread).add_(near)
    return state


def _recipe(model: "nn.Module", adapted_embeddings: bool) -> "Recipe":
    """Return the recipe that scaffold() would make for the model, which does not have memory here."""
    from lottapack import arch, rng
    from lottapack.format.recipe import RECIPE_VERSION, AdaptedRecipe, Recipe, SeededRecipe, StoredRecipe, TiedRecipe
    from lottapack.nn.kinds import inputs_first
    from lottapack.nn.scales import Width, recipe_rng, scale_and_dtype
    from lottapack.nn.select import entries_of

    table = rng.builtin("normal16")
    adapted = (*_ATTENTION, *(["embed_tokens"] if adapted_embeddings else []))
    parameters: dict[str, ParameterRecipe] = {}
    for entry in entries_of(model):
        layer, size = entry.module_name.rpartition(".")[2], tuple(entry.tensor.shape)
        if entry.tied:
            parameters[entry.name] = TiedRecipe(to=entry.tied)
        elif not entry.can_generate or (entry.group == "embedding" and layer not in adapted):
            parameters[entry.name] = StoredRecipe(group=entry.group, trained=True)
        else:
            scale, dtype = scale_and_dtype(entry, table, Width())
            drawn = SeededRecipe(shape=size, dtype=dtype, distribution=table.id, scale=scale)
            parameters[entry.name] = drawn
            if layer in adapted:
                parameters[entry.name] = AdaptedRecipe(
                    **{field: getattr(drawn, field) for field in drawn.__struct_fields__},
                    fan_in_fan_out=inputs_first(entry.module),
                    rank=RANK,
                    alpha=ALPHA,
                    scaling="lora",
                    beta=True,
                )
    return Recipe(
        lottapack_recipe=RECIPE_VERSION,
        architecture=arch.describe(model),
        rng=recipe_rng(_SEED, [table]),
        parameters=parameters,
    )


def _trained(model: "nn.Module", recipe: "Recipe") -> "Iterator[tuple[str, tuple[int, ...], float, float]]":
    """Yield name, shape, mean and deviation of each tensor that is trained."""
    from lottapack.format.factors import adapter_shapes
    from lottapack.format.names import adapter_prefix
    from lottapack.format.recipe import AdaptedRecipe, StoredRecipe

    sizes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, entry in recipe.parameters.items():
        if isinstance(entry, StoredRecipe):
            yield (name, sizes[name], *((1.0, 0.1) if entry.group == "norm" else (0.0, 0.02)))
        elif isinstance(entry, AdaptedRecipe):
            shapes = adapter_shapes(entry)
            for part in entry.parts:
                yield adapter_prefix(name) + part, shapes[part], 0.915 if part == "beta" else 0.0, 0.02
