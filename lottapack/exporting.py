"""export(): what other tools open: full checkpoints, adapters merged, written tensor by tensor; folders with a pack."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from lottapack.arch.trust import allowing
from lottapack.constructed import is_constructed
from lottapack.device import resolve
from lottapack.errors import UnsupportedError
from lottapack.folders import (
    is_folder,
    make_folder,
    require_transformers,
    transformers_config,
    write_json,
    write_pack_folder,
)
from lottapack.format import container, dtypes
from lottapack.format.descriptor import Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.limits import check_disk, check_memory
from lottapack.output import atomic_file
from lottapack.peft.writing import write_adapter
from lottapack.progress import Progress
from lottapack.rebuild import plain_tensor, tensor_bytes

WEIGHTS = "model.safetensors"
Format = Literal["safetensors", "transformers", "transformers-pack", "peft"]


def export(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    format: Format = "safetensors",  # noqa: A002 (the option's name)
    dtype: torch.dtype | None = None,
    scaffold: str | None = None,
    device: str | torch.device = "cpu",
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Write what other tools open. The same pack gives the same files on every device.

    Args:
        path: the pack.
        output: for ``"safetensors"`` a file, or a folder in which ``model.safetensors`` is written; for the other
            formats a folder, made if missing.
        format: ``"safetensors"`` holds every entry of the plain state_dict, tied ones too; ``"transformers"`` leaves
            the tied ones to the library and adds ``config.json``, for ``from_pretrained``; ``"transformers-pack"``
            is the pack itself and ``config.json``, from which ``from_pretrained`` rebuilds the model where lottapack
            has been imported; ``"peft"`` is a PEFT adapter, and in ``base`` the pack of the backbone it was trained on.
        dtype: converts floating tensors (with ``"transformers-pack"``, when the model is loaded); None keeps the
            recorded dtypes.
        scaffold: on which of the pack's scaffolds; by default on that of its main seed.
        device: where weights are generated and merged.
        max_bytes: the largest checkpoint to write; by default what the largest tensor's memory and the disk allow.
        allow: as in load(), for what must build the module: the format ``"peft"``, and packs of ``torch-cpu``.
        progress: called with bytes written and bytes in all.

    Returns:
        The path of the file with the weights.

    Raises:
        FormatError, IntegrityError, LimitError, OutputError, UnsupportedError, NotAllowedError; ScaffoldError for a
            scaffold that the pack does not hold. What was at ``output``
            stays untouched then.
    """
    wanted = None if dtype is None else dtypes.floating_name(dtype)
    where = resolve(device)
    with allowing(allow), open_pack(path, scaffold) as pack:
        if format == "peft":
            if dtype is not None:
                raise UnsupportedError("an adapter is exported as it was trained", hint="Leave dtype out.")
            return write_adapter(pack, Path(output))
        if format != "safetensors":
            require_transformers(pack)
        if format == "transformers-pack":
            return write_pack_folder(pack, make_folder(output), wanted)
        target = _target(output, format == "transformers")
        placed = _layout(pack, wanted, with_ties=format == "safetensors")
        total = placed[-1].end if placed else 0
        if max_bytes is not None:
            check_memory(str(path), total, max_bytes)
        check_disk(str(path), total, target.parent)
        largest = max((info.nbytes for info in placed), default=0)
        check_memory(str(path), 3 * largest, None, where)
        if is_constructed(pack):
            check_memory(str(path), pack.declared_bytes(), None)
        _write(pack, target, placed, where, progress)
        if format == "transformers":
            write_json(target.with_name("config.json"), transformers_config(pack.descriptor, wanted))
    return target


def _target(given: str | PathLike[str], folder: bool) -> Path:
    """The file of weights."""
    return make_folder(given) / WEIGHTS if folder or is_folder(given) else Path(given)


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
