"""Steps for every model of the zoo: inputs, outputs, one training step, and the adapters it reached."""

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lottapack
from lottapack.format.names import adapter_prefix
from lottapack.format.recipe import AdaptedRecipe
from lottapack.nn import recipe_of


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


def reached(model: nn.Module, part: str = "") -> set[str]:
    """The parameters whose gradient is not zero; or with ``part`` those of whose adapters that part's is not."""
    found = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.grad is not None and bool(parameter.grad.any())
    }
    return {name for name in adapted(model) if adapter_prefix(name) + part in found} if part else found


def adapted(model: nn.Module) -> set[str]:
    """The parameters that have an adapter."""
    return {name for name, role in recipe_of(model).parameters.items() if isinstance(role, AdaptedRecipe)}


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
    if "pixel_values" in takes and (main == "pixel_values" or hasattr(config, "vision_config")):
        size, channels = setting(images, "image_size", 32), setting(images, "num_channels", 3)
        found["pixel_values"] = torch.randn(2, channels, size, size, generator=random)
        mark = setting([config], "image_token_id", setting([config], "image_token_index", None))
        if mark is not None and "input_ids" in found:  # the places in the text where the picture's patches go
            patches = (size // setting(images, "patch_size", size)) ** 2
            found["input_ids"] = torch.cat([torch.full((2, patches), mark), tokens], 1)
    if "input_values" in takes:
        found["input_values"] = torch.randn(2, 400, generator=random)
    if "input_features" in takes:
        frames = 2 * setting(sounds, "max_source_positions", 16)
        found["input_features"] = torch.randn(2, setting(sounds, "num_mel_bins", 80), frames, generator=random)
    if setting(texts, "pad_token_id", None) is not None and "input_ids" in found:
        found["attention_mask"] = torch.ones_like(found["input_ids"])
    return {name: value for name, value in found.items() if name in takes}


def as_dtype(inputs: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The inputs, the floating ones of that dtype."""
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def all_outputs(model: nn.Module, inputs: dict[str, Any]) -> dict[str, list[Tensor]]:
    """What a model gives in each mode."""
    found = {"train": run(model.train(), inputs), "with gradients": run(model.eval(), inputs)}
    with torch.no_grad():
        found["eval"] = run(model, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found["autocast"] = run(model, inputs)
    return {mode: [one.detach() for one in outputs] for mode, outputs in found.items()}


def furthest(these: list[Tensor], those: list[Tensor]) -> float:
    """The largest difference between outputs, in units of the largest value (or of 1 if that is larger)."""
    if [one.shape for one in these] != [one.shape for one in those]:
        return float("inf")
    pairs = [(one.double(), other.double()) for one, other in zip(these, those, strict=True) if one.numel()]
    assert pairs
    return max(float((one - other).abs().max() / one.abs().max().clamp(min=1)) for one, other in pairs)


def train(model: nn.Module, inputs: dict[str, Any], path: Path) -> dict[str, Any]:
    """Scaffold, train a step, look at every adapter, pack; leave the outputs beside the pack. What was found."""
    random = torch.Generator().manual_seed(5)

    def disturb(parameters: Iterable[nn.Parameter]) -> None:
        with torch.no_grad():
            for one in parameters:
                one.add_(torch.randn(one.shape, generator=random).to(one.dtype), alpha=0.05)

    disturb(model.parameters())  # so that no gradient of the plain model is zero by how it starts
    step(model, inputs)
    used = reached(model)
    model.zero_grad(set_to_none=True)
    model = lottapack.scaffold(model, seed=3, rank=2)
    layers = adapted(model)
    found: dict[str, Any] = {"adapters": len(layers), "unused": sorted(layers - used)}
    for name in ("step", "autocast step"):
        with torch.autocast("cpu", torch.bfloat16, enabled=name != "step"):
            step(model, inputs)
        found[name] = sorted(layers - (reached(model, "lora_B") & reached(model, "beta")))
        model.zero_grad(set_to_none=True)
        disturb(one for one in model.parameters() if one.requires_grad)
    lottapack.pack(model, path)
    outputs = all_outputs(model, inputs)  # which changes what a batch norm has seen
    torch.save((inputs, outputs), path.with_suffix(".pt"))
    parameters, idle = dict(model.named_parameters(remove_duplicate=False)), []
    with torch.no_grad():
        for layer in sorted(layers):
            factor = parameters[f"{adapter_prefix(layer)}lora_B"]
            before = factor.clone()
            factor.copy_(torch.randn(factor.shape, generator=random))  # no constant, which a norm would take away
            changed = run(model, inputs)
            factor.copy_(before)
            if all(torch.equal(one, other) for one, other in zip(changed, outputs["eval"], strict=True)):
                idle.append(layer)
    found["idle"] = idle
    found["fast path"] = furthest(outputs["with gradients"], outputs["eval"])
    return found


def again(path: Path) -> dict[str, Any]:
    """What a pack's model gives here, against what was left beside it: modes with other bits, and merged how far."""
    inputs, outputs = torch.load(path.with_suffix(".pt"))
    allow = ["zoo_models"]
    here = all_outputs(lottapack.load(path, allow=allow), inputs)
    others = [
        mode
        for mode, expected in outputs.items()
        if len(expected) != len(here[mode])
        or any(not same_bits(one, other) for one, other in zip(expected, here[mode], strict=True))
    ]
    merged = all_outputs(lottapack.load(path, allow=allow, merge=True), inputs)
    return {"other bits": others, "merged": max(furthest(outputs[mode], merged[mode]) for mode in ("train", "eval"))}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same as integers."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.equal(*(tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other)))
