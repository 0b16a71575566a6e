"""What every model of the zoo goes through: inputs, outputs, one step of training, and which adapters it reached."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lottapack.nn import AdapterLayer


def floating(value: Any) -> Iterator[Tensor]:
    """Every floating tensor in what a model returns."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from floating(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from floating(one)


def run(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """The floating outputs of a model, with randomness (masks of some models) from one seed."""
    torch.manual_seed(0)
    positional = inputs.get("x")
    return list(floating(model(positional) if positional is not None else model(**inputs)))


def step(model: nn.Module, inputs: dict[str, Any]) -> None:
    """Forward and backward in training mode."""
    model.train()
    loss = sum(one.double().square().mean() for one in run(model, inputs) if one.requires_grad)
    assert isinstance(loss, Tensor)
    loss.backward()


def reached(model: nn.Module, leaf: str = "weight") -> set[str]:
    """The layers whose parameter of that last name has a gradient that is not zero."""
    return {
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name.rpartition(".")[2] == leaf and parameter.grad is not None and bool(parameter.grad.any())
    }


def adapted(model: nn.Module) -> set[str]:
    """The layers that have an adapter."""
    return {name for name, layer in model.named_modules(remove_duplicate=False) if isinstance(layer, AdapterLayer)}


def inputs_for(model: nn.Module, vocabulary: int = 32) -> dict[str, Any]:
    """Inputs that a model of transformers takes, from its signature and configuration."""
    random = torch.Generator().manual_seed(3)
    config: Any = model.config
    texts = [one for one in (config, getattr(config, "text_config", None)) if one is not None]
    images = [one for one in (getattr(config, "vision_config", None), config) if one is not None]
    sounds = [one for one in (getattr(config, "audio_config", None), config) if one is not None]

    def setting(configs: list[Any], name: str, default: Any) -> Any:
        found = next((getattr(one, name) for one in configs if getattr(one, name, None) is not None), default)
        return found[0] if isinstance(found, list | tuple) else found

    takes = inspect.signature(model.forward).parameters
    tokens = torch.randint(5, vocabulary, (2, 8), generator=random)
    found: dict[str, Any] = {}
    main = getattr(model, "main_input_name", "input_ids")
    if "input_ids" in takes:
        found["input_ids"] = tokens
    if "decoder_input_ids" in takes and getattr(config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = tokens
    if "pixel_values" in takes and (main == "pixel_values" or "CLIP" in type(model).__name__):
        size, channels = setting(images, "image_size", 32), setting(images, "num_channels", 3)
        found["pixel_values"] = torch.randn(2, channels, size, size, generator=random)
    if "input_values" in takes:
        found["input_values"] = torch.randn(2, 400, generator=random)
    if "input_features" in takes:
        frames = 2 * setting(sounds, "max_source_positions", 16)
        found["input_features"] = torch.randn(2, setting(sounds, "num_mel_bins", 80), frames, generator=random)
    if main not in found and main not in ("pixel_values",):
        found = {"input_ids": tokens, **found} if "input_ids" in takes else found
    if setting(texts, "pad_token_id", None) is not None and "input_ids" in found:
        found["attention_mask"] = torch.ones_like(tokens)
    return {name: value for name, value in found.items() if name in takes}


class Encoder(nn.Module):
    """torch's own layers for transformers, with their fast path; and an LSTM, whose weights are trained in full."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        hidden = self.layers(self.first(x))
        hidden = hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0]
        return self.last(self.lstm(hidden)[0])
