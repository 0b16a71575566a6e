"""Read what a trainer saved: files, shards and folders. Only tensors and plain data are ever unpickled."""

import json
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from lottapack.errors import CheckpointError, FormatError
from lottapack.files.links import require_own_file
from lottapack.files.output import refuse_over
from lottapack.folders import folder_kinds, pickles
from lottapack.folders.states import LeftOut
from lottapack.format.container import PACK_END
from lottapack.format.packfile import open_pack

_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".tar")
IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")


def read_checkpoint(path: Path, leaving: LeftOut | None = None) -> dict[str, Any]:
    """Return the content of a checkpoint file or folder (safetensors or torch.save, also in shards).

    ``leaving``: what may be left out of a folder besides its model; what was left out is added to it. Raises
    CheckpointError.
    """
    if path.is_dir():
        file = next((path / name for name in IN_FOLDER if (path / name).is_file()), None)
        if file is None:
            raise CheckpointError(
                f"{path} does not contain a checkpoint",
                hint=folder_kinds.next_step(path) or f"Name the file itself; looked for {', '.join(IN_FOLDER)}.",
            )
        require_own_file(file)
        shards = _shards(file) if file.name.endswith(".index.json") else []
        left = (leaving or LeftOut()).rest(folder_kinds.beside(path, shards))
        if left:
            raise CheckpointError(
                f"{path} contains more weights than {file.name}, which would not be in the pack: {', '.join(left[:5])}",
                hint=f"Name the file to pack, or leave the others out by name, such as `ignore={left[0]}`.",
            )
        path = file
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder", hint="Pass the path of a checkpoint's file or folder.")
    if path.name.endswith(PACK_END):
        with suppress(FormatError), open_pack(path):
            raise CheckpointError(f"{path} is already a pack", hint="Show what it holds with lottapack inspect.")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    return read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of one checkpoint file. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix in _PICKLED:
            content = pickles.read(path)
            if isinstance(content, Mapping):
                return dict(content)
            raise CheckpointError(
                f"{path} contains a {type(content).__name__}, not a state_dict",
                hint="Save model.state_dict(), not the model or a single tensor.",
            )
    except CheckpointError:
        raise
    except Exception as fault:
        # Both libraries raise many kinds of errors, also for files that need more than tensors.
        raise CheckpointError(
            f"cannot read {path} as tensors: {_reason(path, fault)}",
            hint="Save the model's state_dict with safetensors.torch.save_file or torch.save.",
        ) from fault
    raise CheckpointError(
        f"{path}: unknown file type", hint=f"Save the state_dict as .safetensors or {', '.join(_PICKLED)}."
    )


def refuse_over_checkpoint(path: Path, checkpoint: object) -> None:
    """Raise OutputError if a pack at ``path`` would replace a file of the checkpoint, if that is a path."""
    if isinstance(checkpoint, str | PathLike):
        folder = Path(checkpoint)
        packs = path.name.endswith(PACK_END)
        inside = folder.is_dir() and path.is_file() and not packs and path.parent.samefile(folder)
        refuse_over(path, path if inside else folder)


def _reason(path: Path, fault: Exception) -> str:
    """Return in one line why a file is not a checkpoint; torch's own text would advise to run the file's code."""
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(fault, OSError):
        return fault.strerror or str(fault)
    if path.suffix in _PICKLED:
        return "torch.save did not write it, or it is damaged"
    return str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__


def _shards(index: Path) -> list[str]:
    """Return the names of the files that an index lists. Raises CheckpointError."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()), key=str)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as fault:
        raise CheckpointError(f"{index} is not an index of shards: {fault}", hint="Copy the index again.") from fault
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(
                f"{index} names a shard outside its folder: {shard!r}", hint="Do not use this checkpoint."
            )
    return shards


def _read_shards(index: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for shard in _shards(index):
        if not (index.parent / shard).is_file():
            raise CheckpointError(
                f"{index.parent / shard} is missing, but {index.name} lists it", hint="Copy it there."
            )
        require_own_file(index.parent / shard)
        merged |= read_file(index.parent / shard)
    return merged
