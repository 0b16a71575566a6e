"""Generate a model's backbone again, in place: check every weight first, then write."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lottapack import rng
from lottapack.arch.noted import noted
from lottapack.errors import PlacementError, ScaffoldError
from lottapack.format import dtypes
from lottapack.nn.generated_layer import held_as
from lottapack.rng.storages import require_memory


def fill_backbone(model: nn.Module) -> None:
    """Generate every backbone weight with a source, in place, virtual ones too. Raises before anything is written.

    Raises PlacementError for a distributed tensor; ScaffoldError for a weight without memory of its own;
    UnsupportedError for a device that cannot generate.
    """
    weights = list(_generated(model))
    for weight, source in weights:
        _require_fillable(weight, source)
    for weight, source in weights:
        fill_any(weight, source)
        if not weight.is_inference():
            # Kernels write past autograd, which must learn that its saved tensors of a forward pass have changed.
            torch.autograd.graph.increment_version(weight)
    for module in model.modules():
        for generated in noted(module).virtual.values():
            generated.draw_again()


def _generated(model: nn.Module) -> Iterator[tuple[Tensor, rng.Source]]:
    """Yield each weight in memory once, with its source."""
    done: set[int] = set()
    for module in model.modules():
        for leaf, source in noted(module).sources.items():
            held = held_as(module, leaf)
            weight = module._buffers.get(held, module._parameters.get(held))
            if weight is not None and id(weight) not in done:
                done.add(id(weight))
                yield weight, source


def _require_fillable(weight: Tensor, source: rng.Source) -> None:
    if hasattr(weight, "device_mesh"):
        raise PlacementError(
            f"{source.name} is a distributed tensor, and this process holds only a part of it",
            hint="Generate the parts of a scaffold with lottapack.distributed.fill_(model, PACK, scaffold=NAME).",
        )
    if weight.is_meta:
        raise ScaffoldError(
            f"{source.name} is on the meta device",
            hint="Fill it first with lottapack.distributed.fill_(model, PACK).",
        )
    if weight.is_contiguous():
        require_memory(weight)
    elif torch._debug_has_internal_overlap(weight) == 1:
        raise _shared_elements(source, "its elements share memory, as after expand()")


def _shared_elements(source: rng.Source, why: str) -> ScaffoldError:
    return ScaffoldError(f"cannot write {source.name}: {why}", hint="Clone the parameter first.")


def fill_any(weight: Tensor, source: rng.Source) -> None:
    """Fill a tensor of any dtype and layout: generate in the recorded dtype, then convert."""
    recorded = dtypes.torch_dtype(source.dtype)
    if weight.dtype == recorded and weight.is_contiguous() and not weight.is_neg():
        rng.fill_(weight, source)
        return
    drawn = torch.empty(weight.shape, dtype=recorded, device=weight.device)
    rng.fill_(drawn, source)
    try:
        with torch.inference_mode(weight.is_inference()), torch.no_grad():
            weight.copy_(drawn)
    except RuntimeError as fault:
        raise _shared_elements(source, str(fault)) from fault
