"""compare(): what a trained model computes, beside what its pack computes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.computed_dtypes import cast_computed
from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError, IntegrityError, Problem
from lottapack.folders import checkpoint as checkpoints
from lottapack.folders import configuration, pickles
from lottapack.folders.reading import read_checkpoint
from lottapack.folders.states import LeftOut
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Stored
from lottapack.format.packfile import open_pack
from lottapack.format.recipe import AdaptedRecipe, SeededRecipe, TiedRecipe
from lottapack.loading.load import load
from lottapack.nn.attach import attach, place, tie_all
from lottapack.nn.generating import fill_any
from lottapack.packing.narrowed import as_held
from lottapack.peft.reading import is_adapter, read_adapter

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the outputs of a pack are from those of the trained model.

    ``unmerged`` and ``merged``: the largest difference of an element, absolute; ``largest``: the largest element of the
    trained model's outputs; ``exact``: whether the pack keeps every trained tensor as it was.
    """

    unmerged: float
    merged: float
    largest: float
    exact: bool


@torch.no_grad()
def compare(model: nn.Module, path: str | PathLike[str], inputs: Any, *, allow: str | Iterable[str] = ()) -> Comparison:
    """Compare the outputs of a trained model with those of the model that its pack rebuilds, unmerged and merged.

    On one machine, the unmerged model computes the same operations on the same tensors, so its outputs are the same
    bits. The merged one rounds its weights once more: its outputs may differ by the square root of the dtype's epsilon
    times the largest output. A pack with a coding that loses something, or with narrower adapters, is compared, and
    refused for nothing.

    Args:
        model: the trained module, compared in evaluation mode; its mode stays as it is.
        path: the pack.
        inputs: a tensor, a sequence of arguments, or a mapping of arguments by name.
        allow: as in load().

    Raises:
        IntegrityError: the outputs differ by more. CheckpointError: the model gives two answers to the same inputs, or
        no tensor. And what load() raises.

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
    kinds = {t.dtype for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()}
    dtype = next(iter(kinds)) if len(kinds) == 1 else None
    place = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}
    try:
        due, again = (list(_tensors(_run(model.eval(), inputs))) for _ in range(2))
    finally:
        for module, training in modes.items():
            module.training = training
    if not due or _difference(due, again) != 0:
        what = "gives two answers to the same inputs" if due else "gives no tensor"
        raise CheckpointError(f"the model cannot be compared: it {what}", hint="Compare a deterministic part of it.")
    found = []
    for merge in (False, True):
        rebuilt = load(path, device=place, dtype=dtype, merge=merge, allow=allow)
        found.append(_difference(due, list(_tensors(_run(rebuilt, inputs)))))
    largest = max((float(tensor.abs().max()) for tensor in due if tensor.numel()), default=0.0)
    result = Comparison(found[0], found[1], largest, _is_exact(path))
    floats = [tensor.dtype for tensor in due if tensor.is_floating_point()]
    bound = max((torch.finfo(kind).eps for kind in floats), default=0.0) ** 0.5 * largest
    for name, difference, allowed in (("unmerged", result.unmerged, 0.0), ("merged", result.merged, bound)):
        if result.exact and not difference <= allowed:
            problem = Problem("outputs", name, f"differ by up to {difference:.3g}; {allowed:.3g} is explained")
            raise IntegrityError(
                str(path),
                [problem],
                hint="The pack is of another model or another state of it: pack it again. If that does not help, "
                "something outside parameters and configuration makes the outputs, such as a hook.",
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
    """Build the trained model of a checkpoint on the CPU, from its recipe and tensors, without a pack.

    Arguments and errors are those of pack(). What pack() writes of the same checkpoint must compute the same: see
    compare().
    """
    leaving, where = LeftOut(ignore), Path(path)
    with allowing(allow):
        if is_adapter(where):
            plan, tensors, _ = read_adapter(where, None if base is None else Path(base))
        else:
            plan, tensors = checkpoints.split(read_checkpoint(where, leaving), key, leaving)
            plan = configuration.of_checkpoint(plan, where)
        tensors = checkpoints.fitted(plan, tensors)
        if not is_adapter(where):
            plan, tensors = as_held(plan, tensors)
        model = cast_computed(arch.build(plan.architecture), plan.computed, plan.architecture.class_)
    attach(model, plan)
    sources = plan.sources()
    for name, entry in plan.parameters.items():
        if isinstance(entry, SeededRecipe | AdaptedRecipe) and name not in tensors:
            weight = torch.empty(entry.shape, dtype=dtypes.torch_dtype(entry.dtype), device="cpu")
            fill_any(weight, sources[name])
            place(model, name, weight)
    for name, tensor in tensors.items():
        if not isinstance(plan.parameters.get(name), TiedRecipe):
            place(model, name, tensor)
    tie_all(model, plan)
    return model.eval()


def read_inputs(path: str | PathLike[str]) -> Any:
    """Read example inputs for compare(): tensors, or lists or mappings of tensors. Nothing in the file is executed.

    Args:
        path: ``.pt`` or ``.pth`` (torch.save), ``.safetensors`` or ``.npz`` (arguments by name), or ``.npy``.

    Raises:
        CheckpointError: the file cannot be read as such.
    """
    where = Path(path)
    try:
        if where.suffix in (".pt", ".pth"):
            return pickles.read(where)
        if where.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(where)
        if where.suffix in (".npy", ".npz"):
            found = np.load(where, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return torch.from_numpy(found)
            with found:
                return {name: torch.from_numpy(found[name]) for name in found.files}
    except CheckpointError:
        raise
    except Exception as fault:
        raise CheckpointError(
            f"{where} cannot be read as inputs: {fault}", hint="Save them with torch.save({'input_ids': ids}, FILE)."
        ) from fault
    raise CheckpointError(f"{where}: unknown kind of file", hint="Known: .pt, .pth, .safetensors, .npy, .npz")


def _run(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, list | tuple) else model(inputs)


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of an output, in order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for one in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(one)


def _difference(due: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference of an element; infinity for other shapes. NaN in the same place is no difference."""
    if [tuple(tensor.shape) for tensor in due] != [tuple(tensor.shape) for tensor in found]:
        return float("inf")
    worst = 0.0
    for one, other in zip(due, found, strict=True):
        apart = (one.double() - other.double()).abs()
        apart[(one == other) | (one.isnan() & other.isnan())] = 0
        worst = max(worst, float(apart.nan_to_num(nan=float("inf")).max()) if apart.numel() else 0.0)
    return worst


def _is_exact(path: str | PathLike[str]) -> bool:
    """Whether a pack keeps every trained tensor as it was."""
    with open_pack(path) as pack:
        for entry in pack.descriptor.parameters.values():
            if isinstance(entry, Stored) and entry.coding and entry.coding.id != "planes-zlib":
                return False
            if isinstance(entry, Adapted):
                parts = entry.adapter.tensors().values()
                if any(dtypes.ITEMSIZE[part.dtype] < dtypes.ITEMSIZE[entry.dtype] for part in parts):
                    return False
    return True
