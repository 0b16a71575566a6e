"""The Llama shapes of the paper, with adapters on q, k, v, o, a frozen MLP and trained, tied embeddings."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import lottapack

SHAPES = {
    "3M": (6, 64, 4, 192),
    "30M": (10, 384, 6, 1024),
    "300M": (22, 1024, 16, 2816),
    "600M": (30, 1344, 21, 3584),
    "900M": (34, 1664, 26, 4608),
}
"""Layers, width, heads, MLP."""

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def scaffolded(scale: str, *, rank: int = 8, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A scaffolded Llama of one of SHAPES. B is filled as training would, since zeros say little."""
    layers, width, heads, mlp = SHAPES[scale]
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        vocab_size=32000,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu").to(dtype)
    model.tie_weights()
    for module in model.modules():
        model._init_weights(module) if "Norm" in type(module).__name__ or "Rotary" in type(module).__name__ else None
    lottapack.scaffold(model, seed=42, rank=rank, targets=ATTENTION)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(0, 0.02, generator=generator)
    return model
