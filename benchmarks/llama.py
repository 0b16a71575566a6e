"""Llama shapes of the paper: adapters on q, k, v, o, a frozen MLP, and trained, tied embeddings."""

import torch

import lottapack
from lottapack.reports.llamas import LLAMAS, empty_llama

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def scaffolded(scale: str, *, rank: int = 8, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Build a scaffolded Llama of one of the paper's shapes. B is filled, since zeros would test little."""
    model = empty_llama(LLAMAS[scale])
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
