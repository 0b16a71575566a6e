"""compare(): compare the outputs of a trained model with those of its pack."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.as_built import FUSED, plain_modules
from lottapack.arch.computed_dtypes import cast_computed
from lottapack.arch.noted import require_module
from lottapack.arch.skeleton import plain_name
from lottapack.arch.trust import allowing
from lottapack.display import Displayed, Facts
from lottapack.errors import CheckpointError, IntegrityError, Problem
from lottapack.folders import checkpoint as checkpoints
from lottapack.folders import configuration
from lottapack.folders.reading import read_checkpoint
from lottapack.folders.states import LeftOut
from lottapack.format import dtypes
from lottapack.format.codings import is_lossy
from lottapack.format.descriptor import Adapted, Stored
from lottapack.format.packfile import open_pack
from lottapack.format.recipe import AdaptedRecipe, SeededRecipe, TiedRecipe
from lottapack.inputs import arguments, outputs, real
from lottapack.loading.load import load
from lottapack.nn.attach import attach, place, tie_all
from lottapack.nn.generating import fill_any
from lottapack.packing.narrowed import as_held
from lottapack.peft.reading import is_adapter, read_adapter

__all__ = ["Comparison", "compare"]

_IMPLEMENTATIONS: Final = "_attn_implementation_internal", "_experts_implementation_internal"
"""What a configuration says of how a model is run, for this configuration alone, not for those inside it."""


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Displayed):
    """The differences between the outputs of a pack and those of the trained model.

    ``unmerged`` and ``merged``: the largest absolute difference of an element. ``largest``: the largest element of the
    trained model's outputs. ``exact``: whether the pack keeps every trained tensor bit for bit.
    """

    unmerged: float
    merged: float
    largest: float
    exact: bool

    def _facts(self) -> Facts:
        return Facts(
            "outputs",
            f"unmerged {self.unmerged:.3g} apart, merged {self.merged:.3g}, the largest is {self.largest:.3g}",
            {"every trained tensor kept exactly": self.exact},
        )


@torch.no_grad()
def compare(model: nn.Module, path: str | PathLike[str], inputs: Any, *, allow: str | Iterable[str] = ()) -> Comparison:
    """Compare the outputs of a trained model with those of the model that its pack rebuilds, unmerged and merged.

    On the same machine, the unmerged model runs the same operations on the same tensors, so its outputs have the same
    bits. A pack does not say how a model is run, so the rebuilt model gets the trained one's implementations of
    attention and experts and its memory format, and neither runs compiled: other kernels round otherwise. The merged
    model rounds its weights once more: its outputs may differ by the square root of the dtype's epsilon times the
    largest output. So may those of the unmerged model if its backbone changed, since the pack then stores those weights
    merged. Packs with a lossy coding or narrower adapters are compared but never refused.

    Args:
        model: the trained module. It is compared in evaluation mode and gets its own mode back.
        path: the pack.
        inputs: a tensor or an array, a sequence of positional arguments, a mapping of named arguments, or a file with
            any of these: ``.pt``, ``.pth``, ``.safetensors``, ``.npy`` or ``.npz``.
        allow: as in load().

    Raises:
        IntegrityError: the outputs differ by more than that.
        CheckpointError: the model returns no tensor, or two different outputs for the same inputs; it has weights of
            several dtypes with which it does not run; or the inputs cannot be read.
        ScaffoldError: ``model`` is not a module.
        LottapackError: and every error that load() raises.

    Example::

        lottapack.pack(model, "m.lotta.safetensors")
        print(lottapack.compare(model, "m.lotta.safetensors", inputs))

    Source:
        spec/v1/merge.md.

    Examples:
        >>> model = lottapack.load("model.lotta.safetensors")
        >>> lottapack.compare(model, "model.lotta.safetensors", torch.ones(1, 16)).unmerged
        0.0
    """
    require_module(model)
    inputs = arguments(inputs)
    kinds = {tensor.dtype for tensor in _floats(model)}
    dtype = next(iter(kinds)) if len(kinds) == 1 else None
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}
    try:
        expected, again = (_run(model.eval(), inputs) for _ in range(2))
    finally:
        for module, training in modes.items():
            module.training = training
    if not expected or _difference(expected, again) != 0:
        what = "returns different outputs for the same inputs" if expected else "returns no tensors"
        raise CheckpointError(
            f"cannot compare a {type(model).__name__}: it {what}",
            hint="Compare a deterministic part of it that returns tensors.",
        )
    differences, ours = [], _adapters(model)
    for merge in (False, True):
        rebuilt = load(path, device=device, dtype=dtype, merge=merge, allow=allow)
        _run_alike(rebuilt, model)
        differences.append(_difference(expected, _run(rebuilt, inputs)))
        if not merge:
            stored = bool(ours - _adapters(rebuilt))  # a changed backbone, which the pack holds with its adapter merged
    largest = max((float(tensor.double().abs().max()) for tensor in expected if tensor.numel()), default=0.0)
    result = Comparison(differences[0], differences[1], largest, _is_exact(path))
    floats = [tensor.dtype for tensor in expected if tensor.is_floating_point()]
    bound = max((torch.finfo(kind).eps for kind in floats), default=0.0) ** 0.5 * largest
    for name, difference, allowed in (
        ("unmerged", result.unmerged, bound if stored else 0.0),
        ("merged", result.merged, bound),
    ):
        if result.exact and not difference <= allowed:
            problem = Problem(
                "outputs", name, f"differ by up to {difference:.3g}; rounding explains at most {allowed:.3g}"
            )
            raise IntegrityError(
                str(path),
                [problem],
                hint="The pack is of another model or of another state of it: pack the model again. If the outputs "
                "still differ, something outside parameters and configuration changes them, such as a hook.",
            )
    return result


@torch.no_grad()
def trained(
    path: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
) -> nn.Module:
    """Build the trained model of a checkpoint on the CPU from its recipe and tensors, without a pack.

    Takes the arguments of pack() and raises its errors. compare() shows whether the pack computes the same.
    """
    leaving, source = LeftOut(ignore), Path(path)
    with allowing(allow):
        if is_adapter(source):
            recipe, tensors, _ = read_adapter(source, None if base is None else Path(base))
        else:
            recipe, tensors = checkpoints.split(read_checkpoint(source, leaving), key, leaving)
            recipe = configuration.of_recipe(recipe, tensors, leaving, source)
        tensors = checkpoints.fitted(recipe, tensors)
        if not is_adapter(source):
            recipe, tensors = as_held(recipe, tensors)
        model = cast_computed(arch.build(recipe.architecture), recipe.computed, recipe.architecture.class_)
    attach(model, recipe)
    sources = recipe.sources()
    for name, entry in recipe.parameters.items():
        if isinstance(entry, SeededRecipe | AdaptedRecipe) and name not in tensors:
            weight = torch.empty(entry.shape, dtype=dtypes.torch_dtype(entry.dtype), device="cpu")
            fill_any(weight, sources[name])
            place(model, name, weight)
    for name, tensor in tensors.items():
        if not isinstance(recipe.parameters.get(name), TiedRecipe):
            place(model, name, tensor)
    tie_all(model, recipe)
    return model.eval()


def _run(model: nn.Module, inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> list[Tensor]:
    """Return the tensors of the output, in order, with complex numbers as pairs."""
    positional, named = inputs
    # Whatever compiled a module has imported this, which takes a second.
    compiled = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        try:
            return [real(tensor) for _, tensor in outputs(model(*positional, **named))]
        except RuntimeError as fault:
            kinds = sorted({dtypes.dtype_name(one.dtype) for one in _floats(model)})
            if len(kinds) < 2:
                raise
            raise CheckpointError(
                f"cannot compare a {type(model).__name__} with weights in {' and '.join(kinds)}: {fault}",
                hint="Cast the model to one dtype before packing: model.to(torch.float32). FSDP casts the buffers of "
                "a backbone if MixedPrecision has a buffer_dtype: leave that out.",
            ) from fault


def _adapters(model: nn.Module) -> set[str]:
    return {plain_name(name) for name, _ in model.named_parameters() if name.endswith("lora_A")}


def _floats(model: nn.Module) -> Iterator[Tensor]:
    return (one for one in (*model.parameters(), *model.buffers()) if one.is_floating_point())


def _run_alike(rebuilt: nn.Module, model: nn.Module) -> None:
    """Let a model compute as another does: attention, experts, and convolutions of weights that end in channels."""
    theirs = dict(plain_modules(model))
    for name, module in plain_modules(rebuilt):
        config, due = getattr(module, "config", None), getattr(theirs.get(name), "config", None)
        for key in _IMPLEMENTATIONS:
            wanted = getattr(due, key, None)
            if wanted is not None and getattr(config, key, wanted) != wanted:
                setattr(config, key, wanted)
        fused = getattr(theirs.get(name), FUSED, None)
        if type(fused) is bool and getattr(module, FUSED, None) is not None:
            setattr(module, FUSED, fused)
    for dims, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if any(one.dim() == dims and _has_layout(one, layout) for one in _floats(model)):
            for one in _floats(rebuilt):
                if one.dim() == dims:
                    one.data = one.data.contiguous(memory_format=layout)


def _has_layout(tensor: Tensor, layout: torch.memory_format) -> bool:
    """Return whether a tensor lies in memory in this order alone, for which convolutions have kernels of their own."""
    return tensor.is_contiguous(memory_format=layout) and not tensor.is_contiguous()


def _difference(due: list[Tensor], found: list[Tensor]) -> float:
    """Return the largest difference of an element, or infinity if the shapes differ. NaN equals NaN."""
    if [tuple(tensor.shape) for tensor in due] != [tuple(tensor.shape) for tensor in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(due, found, strict=True):
        apart = (one.double() - other.double()).abs()
        apart[(one == other) | (one.isnan() & other.isnan())] = 0
        worst = max(worst, float(apart.nan_to_num(nan=float("inf")).max()) if apart.numel() else 0.0)
    return worst


def _is_exact(path: str | PathLike[str]) -> bool:
    """Return whether a pack keeps every trained tensor bit for bit."""
    with open_pack(path) as pack:
        for entry in pack.descriptor.parameters.values():
            if isinstance(entry, Stored) and is_lossy(entry):
                return False
            if isinstance(entry, Adapted):
                parts, size = entry.adapter.tensors().values(), dtypes.ITEMSIZE[entry.dtype]
                if any(is_lossy(part) or dtypes.ITEMSIZE[part.dtype] < size for part in parts):
                    return False
    return True
