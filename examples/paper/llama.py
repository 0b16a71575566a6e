"""WikiText-103: five Llamas, adapters on q, k, v and o, the tied word embeddings trained, all else random."""

from functools import partial

import torch
from paper_run import Case, main
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.initialization import no_init_weights

WORDS = 32_000
SHAPES = {
    "3M": (6, 64, 4, 192, 7.68),
    "30M": (10, 384, 6, 1024, 1.39),
    "300M": (22, 1024, 16, 2816, 0.51),
    "600M": (30, 1344, 21, 3584, 0.40),
    "900M": (34, 1664, 26, 4608, 0.31),
}
"""By the paper's name: layers, width, heads, width of the perceptrons, trained share in per cent."""


def build(shape: tuple[int, int, int, int], layers: int | None = None) -> nn.Module:
    depth, width, heads, inner = shape
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers or depth,
        num_attention_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    with no_init_weights():  # scaffold() draws every weight
        model = LlamaForCausalLM(config)
    model.tie_weights()
    return model


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Make texts in which each word is followed by the next of the vocabulary."""
    first = torch.randint(WORDS, (2, 1), generator=generator)
    words = (first + torch.arange(32)) % WORDS
    return model(input_ids=words, labels=words).loss


CASES = [
    Case(
        name=f"Llama {name}, rank 8",
        build=partial(build, tuple(shape)),
        scaffold={
            "rank": 8,
            "alpha": 16.0,
            "targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "train": "embeddings",
        },
        loss=loss,
        paper_total=name,
        paper_percent=percent,
        note="the share leaves the word embeddings out, as the paper's internal share does; norms stay 1. "
        "The paper's 900M has 1.2 billion parameters.",
        left_out=("model.embed_tokens.weight",),
        large=shape[0] > 10,
    )
    for name, (*shape, percent) in SHAPES.items()
]

if __name__ == "__main__":
    main(CASES)
