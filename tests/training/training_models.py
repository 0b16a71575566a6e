"""Small models of transformers, data for them, and real training steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIZE = {"vocab_size": 40, "max_position_embeddings": 16}


def llama(**options: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(**{**SIZE, **shape, **ends, "num_key_value_heads": 1, **options}))


def gpt2(**options: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"vocab_size": 40, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**{**shape, **drop, "bos_token_id": 0, "eos_token_id": 1, **options}))


def vit(**options: Any) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    image = {"image_size": 8, "patch_size": 4, "num_labels": 3}
    return ViTForImageClassification(ViTConfig(**{**shape, **image, **options}))


def distilbert(**options: Any) -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    shape = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "num_labels": 3}
    drop = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    return DistilBertForSequenceClassification(DistilBertConfig(**{**SIZE, **shape, **drop, **options}))


BUILD: dict[str, Callable[..., nn.Module]] = {"llama": llama, "gpt2": gpt2, "vit": vit, "distilbert": distilbert}
ATTENTION = {
    "llama": ["q_proj", "v_proj"],
    "gpt2": ["c_attn"],
    "vit": ["q_proj", "v_proj"],
    "distilbert": ["q_lin", "v_lin"],
}


def batch(name: str, count: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Inputs with labels."""
    draws = torch.Generator().manual_seed(seed)
    if name == "vit":
        return {
            "pixel_values": torch.randn(count, 3, 8, 8, generator=draws),
            "labels": torch.randint(0, 3, (count,), generator=draws),
        }
    ids = torch.randint(3, 40, (count, 6), generator=draws)
    labels = ids if name in ("llama", "gpt2") else torch.randint(0, 3, (count,), generator=draws)
    return {"input_ids": ids, "labels": labels}


def logits(model: nn.Module, name: str) -> Tensor:
    """Return a model's output in evaluation mode for a fixed input."""
    given = {key: value for key, value in batch(name, seed=9).items() if key != "labels"}
    with torch.no_grad():
        found: Tensor = model.eval()(**given).logits
    return found


def fit(model: nn.Module, name: str, steps: int = 3, rate: float = 0.05) -> nn.Module:
    """Train for some steps in an ordinary loop."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    model.train()
    for step in range(steps):
        loss = model(**batch(name, seed=step)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def arguments(folder: Path, **options: Any) -> Any:
    """Training arguments for a short run on the CPU."""
    from transformers import TrainingArguments

    common = {"per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "disable_tqdm": True, "seed": 1}
    plan = {"max_steps": 4, "save_steps": 2, "learning_rate": 0.01, "logging_strategy": "no"}
    return TrainingArguments(output_dir=str(folder), **{**common, **plan, **options})


def dataset(name: str, count: int = 16) -> list[dict[str, Tensor]]:
    """Examples for the Trainer."""
    whole = batch(name, count)
    return [{key: value[index] for key, value in whole.items()} for index in range(count)]
