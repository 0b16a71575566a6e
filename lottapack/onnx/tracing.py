"""Trace a model with the exporter of its library, on an example."""

from typing import Any

import torch
from torch import Tensor, nn

from lottapack.arch import family_of
from lottapack.errors import UnsupportedError
from lottapack.inputs import arguments

_GIVE_ONE = "Give an example as `inputs`: tensors by the names of forward(), or a file with them."


@torch.no_grad()
def traced(model: nn.Module, inputs: dict[str, Any] | tuple[Tensor, ...]) -> Any:
    """Return the graph of a model, an ``onnx_ir.Model`` whose initializers have the names of its state_dict."""
    if family_of(model).name == "transformers" and isinstance(inputs, dict):
        from transformers.exporters import OnnxConfig, OnnxExporter

        return OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True, optimize=False)).program
    shapes = [dict.fromkeys(range(tensor.dim()), torch.export.Dim.AUTO) for tensor in _tensors(inputs)]
    program = torch.onnx.export(
        model,
        args=inputs if isinstance(inputs, tuple) else (),
        kwargs=inputs if isinstance(inputs, dict) else None,
        dynamic_shapes=tuple(shapes) if isinstance(inputs, tuple) else dict(zip(inputs, shapes, strict=True)),
        dynamo=True,
        optimize=False,  # it would fold weights into others
        verbose=False,
    )
    assert program is not None
    return program.model


@torch.no_grad()
def example(model: nn.Module, inputs: Any) -> dict[str, Any] | tuple[Tensor, ...]:
    """Return what to trace a model on: what the caller gives, or something made up. Raises UnsupportedError."""
    if inputs is not None:
        positional, named = arguments(inputs)
        return positional or named
    family = family_of(model).name
    if family == "transformers":
        return _of_transformers(model)
    if family == "timm":
        size = getattr(model, "default_cfg", {}).get("input_size") or (3, 224, 224)
        return (torch.zeros(2, *size, dtype=_dtype(model), device="cpu"),)
    first = next((module for module in model.modules() if not list(module.children())), None)
    if isinstance(model, nn.Sequential | nn.Linear) and isinstance(first, nn.Linear):
        return (torch.zeros(2, first.in_features, dtype=_dtype(model), device="cpu"),)
    raise UnsupportedError(f"cannot choose an example input for a {type(model).__name__}", hint=_GIVE_ONE)


def _of_transformers(model: Any) -> dict[str, Any]:
    config = model.config
    if model.main_input_name == "pixel_values" and isinstance(getattr(config, "image_size", None), int):
        size = (2, getattr(config, "num_channels", 3), config.image_size, config.image_size)
        return {"pixel_values": torch.zeros(size, dtype=_dtype(model), device="cpu")}
    if model.main_input_name != "input_ids":
        raise UnsupportedError(f"cannot choose an example input for a {type(model).__name__}", hint=_GIVE_ONE)
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = (torch.arange(14, dtype=torch.int64, device="cpu") % vocabulary).view(2, 7)
    mask = torch.ones(2, 7, dtype=torch.int64, device="cpu")
    if getattr(config, "is_encoder_decoder", False):
        return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids[:, :5]}
    if not (model.can_generate() and getattr(config, "use_cache", False)):
        return {"input_ids": ids, "attention_mask": mask}
    # Four tokens after three: neither length is one, which the exporter would take for fixed.
    cache = model(input_ids=ids[:, :3], use_cache=True).past_key_values
    return {"input_ids": ids[:, 3:], "attention_mask": mask, "past_key_values": cache}


def _tensors(inputs: dict[str, Any] | tuple[Tensor, ...]) -> list[Tensor]:
    return list(inputs.values() if isinstance(inputs, dict) else inputs)


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
