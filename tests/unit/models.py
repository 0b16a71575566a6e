"""Small models with random trained tensors, and comparison of bits."""

import torch
from torch import Tensor, nn

import lottapack


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def text() -> nn.Sequential:
    """An embedding with a padding row, and a layer used twice."""
    twice = nn.Linear(12, 12)
    return nn.Sequential(nn.Embedding(20, 12, padding_idx=3), twice, nn.Tanh(), twice, nn.Flatten(), nn.Linear(60, 4))


def tied_llama(dtype: torch.dtype = torch.float32) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM._from_config(config, dtype=dtype)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2))


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=8,
            patch_size=4,
            num_labels=3,
        )
    )


def distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    return DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=32, max_position_embeddings=16, dim=16, n_layers=1, n_heads=2, hidden_dim=24)
    )


TRANSFORMERS = {"llama": tied_llama, "gpt2": gpt2, "vit": vit, "distilbert": distilbert}
PLAIN = {"mlp": mlp, "cnn": cnn, "text": text}


def input_for(name: str) -> Tensor:
    """Return an input of the model."""
    generator = torch.Generator().manual_seed(5)
    if name == "mlp":
        return torch.randn(2, 16, generator=generator)
    if name == "cnn":
        return torch.randn(2, 3, 6, 6, generator=generator)
    if name == "vit":
        return torch.randn(2, 3, 8, 8, generator=generator)
    return torch.randint(0, 20, (2, 5), generator=generator)


def output(model: nn.Module, given: Tensor) -> Tensor:
    """The model's output, or its logits."""
    with torch.no_grad():
        found = model(given)
    return found if isinstance(found, Tensor) else found.logits


def train(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw all trained values and BatchNorm statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += torch.rand(module.running_mean.shape, generator=generator)
                module.running_var += torch.rand(module.running_var.shape, generator=generator)
                module.num_batches_tracked += 7
    return model.eval()


def trained(name: str, **options: object) -> nn.Module:
    """Build a scaffolded and trained model of that name."""
    build = {**PLAIN, **TRANSFORMERS}[name]
    return train(lottapack.scaffold(build(), **{"seed": 42, "rank": 2, **options}))


def bits(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    """Return dtype, shape and bytes: equal if and only if the tensors are, NaN and minus zero included."""
    flat = tensor.detach().cpu().resolve_neg().contiguous().reshape(-1)
    return tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def named(model: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer under each of its names."""
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same dtype, shape and bits."""
    return bits(one) == bits(other)


def all_bits(model: nn.Module) -> dict[str, object]:
    """Return the bits of every parameter and buffer, backbone and computed buffers included, by name."""
    return {name: bits(tensor) for name, tensor in named(model).items()}
