"""The five Llamas of the paper (arXiv 2604.08749): their shapes, their sizes in its Table 10, and trained-like states."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lottapack.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

VOCABULARY: Final = 32_000
RANK: Final = 8
_SEED: Final = 42
_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Llama:
    """A scale. ``fp16``, ``four_bit`` and ``lottalora``: the sizes that the paper's Table 10 gives, in MiB.

    (It says MB; its own counts show that they are MiB.) Embeddings are tied; q, k, v and o have adapters of rank 8.
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
"""By the paper's names. (The last one has about 1.2 billion parameters.)"""


def scale_of(config: "dict[str, Any]") -> str | None:
    """The name of the Llama that has a configuration's shape, or None."""
    for name, shape in LLAMAS.items():
        due = {
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.width,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.mlp,
            "vocab_size": VOCABULARY,
            "tie_word_embeddings": True,
        }
        if due.items() <= config.items():
            return name
    return None


def trained_state(shape: Llama, *, adapted_embeddings: bool = False) -> "dict[str, Tensor]":
    """What a training checkpoint of a scaffolded Llama holds, without training it and without its backbone.

    All that is trained is drawn: embeddings and adapters normal, norms and betas near 1, in float32. A pack of it
    has the size of a trained one. ``adapted_embeddings``: the embeddings are random too, and have an adapter.

    Raises UnsupportedError without transformers.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as fault:
        raise UnsupportedError(
            "transformers is not installed, and the Llamas are its models", hint="pip install 'lottapack[transformers]'"
        ) from fault
    import torch

    from lottapack.format.descriptor import adapter_prefix, adapter_shapes, factor_dims
    from lottapack.format.recipe import BUFFER, AdaptedRecipe, StoredRecipe
    from lottapack.nn.scaffolding import plan_scaffold

    config = LlamaConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    targets = [*_ATTENTION, *(["embed_tokens"] if adapted_embeddings else [])]
    recipe = plan_scaffold(model, seed=_SEED, rank=RANK, alpha=16.0, targets=targets)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    draws = torch.Generator().manual_seed(_SEED)
    state = {BUFFER: torch.frombuffer(bytearray(recipe.to_bytes()), dtype=torch.uint8)}
    for name, entry in recipe.parameters.items():
        if isinstance(entry, StoredRecipe):
            near, spread = (1.0, 0.1) if entry.group == "norm" else (0.0, 0.02)
            state[name] = torch.randn(shapes[name], generator=draws).mul_(spread).add_(near)
        elif isinstance(entry, AdaptedRecipe):
            parts = adapter_shapes(entry.rank, *factor_dims(entry.shape, entry.fan_in_fan_out))
            for part in entry.parts:
                near = 0.915 if part == "beta" else 0.0
                drawn = torch.randn(parts[part], generator=draws).mul_(0.02).add_(near)
                state[adapter_prefix(name) + part] = drawn
    return state
