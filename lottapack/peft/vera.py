"""VeRA's projections, which all layers share: as PEFT saves and draws them, and from a base's seed."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lottapack.arch.noted import noted
from lottapack.errors import CheckpointError, ScaffoldError
from lottapack.format.descriptor import FACTORS
from lottapack.nn.projections import kaiming, projection

PROJECTIONS = {"lora_A": "base_model.vera_A", "lora_B": "base_model.vera_B"}
"""PEFT's names of the projections."""

_PROJECTION = re.compile(r"(?:^|\.)vera_([AB])(?:\.[^.]+)?$")


def split(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the other tensors of an adapter, and its projections by the last names of factors.

    A state_dict of the whole model has the same ones again in each layer.
    """
    rest: dict[str, Any] = {}
    projections: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _PROJECTION.search(name)
        if match is None:
            rest[name] = tensor
        elif isinstance(tensor, Tensor):
            projections.setdefault(f"lora_{match[1]}", tensor)
    return rest, projections


def drawn_by_peft(key: int, rank: int, d_out: int, d_in: int) -> dict[str, Tensor]:
    """Return the projections that PEFT draws with the installed torch, where it did not save them."""
    generator = torch.Generator(device="cpu").manual_seed(key)

    def draw(*shape: int) -> Tensor:
        bound = math.sqrt(3.0) * (math.sqrt(2.0) / math.sqrt(shape[1]))
        return torch.empty(shape, dtype=torch.float32, device="cpu").uniform_(-bound, bound, generator=generator)

    return {"lora_A": draw(rank, d_in), "lora_B": draw(d_out, rank)}


def of_layer(
    folder: Path, projections: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return a layer's factors: the first rows and columns of the projections. Raises CheckpointError."""
    found = {}
    for part in FACTORS:
        whole, (rows, columns) = projections.get(part), shapes[part]
        if whole is None or whole.dim() != 2 or whole.shape[0] < rows or whole.shape[1] < columns:
            held = "missing" if whole is None else f"of shape {tuple(whole.shape)}"
            raise CheckpointError(
                f"{folder}: the projection {PROJECTIONS[part]} is {held}, but a layer needs {rows} x {columns} of it",
                hint="Save the adapter again with save_projection=True.",
            )
        found[part] = whole[:rows, :columns].contiguous()
    return found


@torch.no_grad()
def draw_projections_(peft_model: nn.Module) -> nn.Module:
    """Draw the projections of PEFT's VeRA adapters from the base's seed, in place, before training.

    A pack of the adapter then has only its vectors: it generates the projections, as it does the base. Without this,
    PEFT draws them with torch, and the pack stores them.

    Args:
        peft_model: from ``peft.get_peft_model`` with a ``VeraConfig``, over a base that init_backbone_() drew.

    Returns:
        The model.

    Raises:
        ScaffoldError: the model has no VeRA adapter, its base has no seed, or PEFT would not save the projections.

    Source:
        VeRA (arXiv 2310.11454); spec/v1/codings.md.

    Examples:
        >>> import peft
        >>> base = lottapack.init_backbone_(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4)), seed=42)
        >>> model = peft.get_peft_model(base, peft.VeraConfig(r=8, target_modules=["0", "1"]))
        >>> model = lottapack.peft.draw_projections_(model)
    """
    tuner = getattr(peft_model, "base_model", None)
    held = {part: getattr(tuner, name.rpartition(".")[2], None) for part, name in PROJECTIONS.items()}
    base = getattr(tuner, "model", None)
    if None in held.values() or not isinstance(base, nn.Module):
        raise ScaffoldError(
            "the model has no VeRA projections", hint="Call peft.get_peft_model(base, peft.VeraConfig(...)) first."
        )
    plan = noted(base).recipe
    if plan is None:
        raise ScaffoldError(
            "the base of the adapter has no seed", hint="Call lottapack.init_backbone_(base, seed=...) before PEFT."
        )
    unsaved = [name for name, config in getattr(tuner, "peft_config").items() if not config.save_projection]  # noqa: B009
    if unsaved:
        raise ScaffoldError(
            f"the adapter {unsaved[0]} has save_projection=False, so that PEFT would draw other projections when it "
            "loads it",
            hint="Leave out save_projection.",
        )
    for part, matrices in held.items():
        for matrix in matrices.values():  # type: ignore[union-attr]
            owner = _owner(base, part, tuple(matrix.shape))
            matrix.copy_(projection(plan.seed, owner, part, kaiming(matrix.shape[1]), matrix))
    return peft_model


def _owner(base: nn.Module, part: str, shape: tuple[int, ...]) -> str:
    """Return the parameter that owns a projection in a pack: the first of the layers that use all of it."""
    side = shape[1] if part == "lora_A" else shape[0]
    sides = {
        name: module.in_features if part == "lora_A" else module.out_features
        for name, module in base.named_modules()
        if hasattr(module, "vera_lambda_d")
    }
    return min(f"{name}.weight" if name else "weight" for name, one in sides.items() if one == side)
