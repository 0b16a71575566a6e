"""What the folder of a PEFT adapter does not tell of the model: a base that changed, other active adapters, scales."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lottapack.arch.said import has_values
from lottapack.errors import LeftOutWarning
from lottapack.folders.bases import INSIDE_PEFT
from lottapack.folders.bits import same_bits
from lottapack.folders.model_folders import PACK_NAME
from lottapack.format.descriptor import Seeded, Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.recipe import BUFFER
from lottapack.nn.attach import recipe_text
from lottapack.nn.changes import is_as_drawn
from lottapack.nn.skeletons import skeleton_of
from lottapack.packing.pack import pack
from lottapack.weights.rebuild import plain_tensor

_DEFAULT = "default"
"""The name of the adapter whose files PEFT writes into the folder itself; others get a folder inside."""


@torch.no_grad()
def base_now(data: bytes, model: Any) -> bytes:
    """Return the pack of an adapter's base with the values that the base has now, such as running statistics.

    Args: data, the pack; model, the model around it from ``get_peft_model``. Warns of weights that no longer follow
    from the seed, which the pack then stores.
    """
    values = dict(_values(model))
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / PACK_NAME
        path.write_bytes(data)
        with open_pack(path) as packed:
            changed = [name for name, value in values.items() if not _is_as_packed(packed, name, value)]
            if not changed:
                return data
            _, _, plan = skeleton_of(packed)
            entries = packed.descriptor.parameters
            kept = [name for name, entry in entries.items() if not isinstance(entry, Seeded | Tied)]
            state = {name: plain_tensor(packed, name, torch.device("cpu")) for name in kept}
        state |= {name: values[name].cpu().contiguous() for name in changed}
        pack(
            {BUFFER: recipe_text(plan), **state}, path, files=False, allow_nonfinite=True
        )  # pack() of the adapter refuses them
        return path.read_bytes()


def _values(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the base by their plain names, without those that the adapter holds or is merged into."""
    base = model.get_base_model()
    merged = tuple(f"{name}." for name, module in base.named_modules() if getattr(module, "merged", False) is True)
    config = model.peft_config.get(_DEFAULT, next(iter(model.peft_config.values())))
    trained = {name for name, parameter in base.named_parameters() if parameter.requires_grad}
    tensors = (
        *base.named_parameters(remove_duplicate=False),
        *base.named_buffers(),
    )  # state_dict() of a shard would wait
    for long, value in tensors:
        in_adapter = getattr(config, "bias", "none") != "none" and long.endswith("bias") and long in trained
        if not (in_adapter or (merged and long.startswith(merged)) or ".modules_to_save." in f".{long}"):
            yield long.replace(INSIDE_PEFT, "").replace(".original_module", ""), value


def _is_as_packed(packed: PackFile, name: str, value: Tensor) -> bool:
    """Return whether a tensor has the value in the pack of the base. True for tensors that the pack cannot hold."""
    entry = packed.descriptor.parameters.get(name)
    if entry is None or isinstance(entry, Tied) or not has_values(value) or tuple(value.shape) != tuple(entry.shape):
        return True
    if hasattr(value, "device_mesh"):
        return True  # to read a shard, every process would have to save
    if isinstance(entry, Seeded):
        return is_as_drawn(value, packed.source(name))
    due = plain_tensor(packed, name, torch.device("cpu"))
    return same_bits(value.to("cpu", due.dtype), due)


def tell_what_is_left_out(model: Any, folder: Path, selected: Iterable[str] | None) -> None:
    """Warn of what decides the outputs of a PEFT model and is not in the folder that it was saved to."""
    saved = set(model.peft_config if selected is None else selected)
    active = list(model.active_adapters)
    if _DEFAULT in saved and active != [_DEFAULT]:
        alone = f", and {active[0]} is in {folder / active[0]}" if len(active) == 1 else ""
        _warn(
            f"the model runs the adapters {', '.join(active)}, but a pack of {folder} holds {_DEFAULT} alone"
            f"{alone}. A pack holds one adapter; model.add_weighted_adapter() makes one of several"
        )
    for name, layer in model.named_modules():
        if getattr(layer, "disable_adapters", False) is True:
            _warn(f"the adapters are disabled, but a pack of {folder} applies them. Pack the base without them instead")
            return
        scaling = getattr(layer, "scaling", None)
        if isinstance(scaling, dict) and (found := _rescaled(model.peft_config, layer, scaling)):
            now, due = found
            _warn(
                f"{name} scales its adapter by {now:g}, but its configuration says {due:g}, and a pack of {folder} "
                "follows the configuration. Call unscale_layer(), or set lora_alpha"
            )
            return


def _rescaled(configs: Mapping[str, Any], layer: Any, scaling: Mapping[str, float]) -> tuple[float, float] | None:
    """Return the scale of a layer's adapter and the one that its configuration gives, if they differ."""
    for adapter, now in scaling.items():
        rank, alpha = getattr(layer, "r", {}).get(adapter), getattr(layer, "lora_alpha", {}).get(adapter)
        if adapter in layer.active_adapters and rank and alpha is not None and configs[adapter].peft_type == "LORA":
            due = alpha / (math.sqrt(rank) if configs[adapter].use_rslora else rank)
            if now != due:
                return now, due
    return None


def _warn(message: str) -> None:
    warnings.warn(message, LeftOutWarning, stacklevel=4)
