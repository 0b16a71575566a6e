"""export(): the full checkpoint of a pack, adapters merged, written tensor by tensor."""

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from lottapack.device import resolve
from lottapack.errors import OutputError, UnsupportedError
from lottapack.format import container, dtypes
from lottapack.format.descriptor import Descriptor, Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.shapes import numel
from lottapack.limits import check_disk, check_memory
from lottapack.output import atomic_file
from lottapack.progress import Progress
from lottapack.rebuild import plain_tensor, tensor_bytes

WEIGHTS = "model.safetensors"


def export(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    format: Literal["safetensors", "transformers"] = "safetensors",  # noqa: A002 (the option's name)
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    max_bytes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the merged full checkpoint. The same pack gives the same file on every device.

    Args:
        path: the pack.
        output: for ``"safetensors"`` a file, or a folder in which ``model.safetensors`` is written; for
            ``"transformers"`` a folder, made if missing, which ``from_pretrained`` opens.
        format: ``"safetensors"`` holds every entry of the plain state_dict, tied ones too; ``"transformers"`` leaves
            the tied ones to the library and adds ``config.json``.
        dtype: converts floating tensors; None keeps the recorded dtypes.
        device: where weights are generated and merged.
        max_bytes: the largest checkpoint to write; by default what the largest tensor's memory and the disk allow.
        progress: called with bytes written and bytes in all.

    Returns:
        The path of the file with the weights.

    Raises:
        FormatError, IntegrityError, LimitError, OutputError, UnsupportedError. What was at ``output``
            stays untouched then.
    """
    wanted = None if dtype is None else dtypes.floating_name(dtype)
    where = resolve(device)
    with open_pack(path) as pack:
        if format == "transformers" and pack.descriptor.architecture.family != "transformers":
            raise UnsupportedError(
                f"{path} holds a {pack.descriptor.architecture.family} model, no transformers model",
                hint="Export it as safetensors.",
            )
        target = _target(output, format == "transformers")
        placed = _layout(pack, wanted, with_ties=format == "safetensors")
        total = placed[-1].end if placed else 0
        if max_bytes is not None:
            check_memory(str(path), total, max_bytes)
        check_disk(str(path), total, target.parent)
        largest = max((info.nbytes for info in placed), default=0)
        check_memory(str(path), 3 * largest, None, where)
        _write(pack, target, placed, where, progress)
        if format == "transformers":
            config = transformers_config(pack.descriptor, wanted)
            with atomic_file(target.with_name("config.json")) as file:
                file.write(json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")
    return target


def _target(given: str | PathLike[str], folder: bool) -> Path:
    """The file of weights. A path that ends in a slash is a folder, which Path alone would forget."""
    output = Path(given)
    if not folder and not output.is_dir() and not str(given).endswith(("/", os.sep)):
        return output
    try:
        output.mkdir(exist_ok=True)
    except OSError as fault:
        raise OutputError(f"cannot make the folder {output}: {fault.strerror or fault}") from fault
    return output / WEIGHTS


def _layout(pack: PackFile, dtype: str | None, *, with_ties: bool) -> list[container.TensorInfo]:
    wanted = []
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied) and not with_ties:
            continue
        owner = pack.descriptor.parameters[pack.descriptor.resolve(name)]
        assert not isinstance(owner, Tied)
        wanted.append((name, dtype if dtype and "float" in owner.dtype else owner.dtype, owner.shape))
    return container.layout(wanted)


@torch.no_grad()
def _write(
    pack: PackFile,
    target: Path,
    placed: list[container.TensorInfo],
    device: torch.device,
    progress: Progress | None,
) -> None:
    infos = {info.name: info for info in placed}
    total = placed[-1].end if placed else 0

    def data(name: str) -> Any:
        tensor = plain_tensor(pack, name, device).to(dtypes.torch_dtype(infos[name].dtype)).cpu().contiguous()
        if progress:
            progress(infos[name].end, total)
        return tensor_bytes(tensor)

    with atomic_file(target) as file:
        container.write(file, {"format": "pt"}, placed, data)


def transformers_config(descriptor: Descriptor, dtype: str | None) -> dict[str, Any]:
    """What ``config.json`` says of an exported model."""
    count: dict[str, int] = {}
    for entry in descriptor.parameters.values():
        if not isinstance(entry, Tied) and "float" in entry.dtype:
            count[entry.dtype] = count.get(entry.dtype, 0) + numel(entry.shape)
    recorded = max(count, key=lambda name: count[name], default="float32")
    return {
        **descriptor.architecture.config,
        "architectures": [descriptor.architecture.class_],
        "dtype": dtype or recorded,
    }
