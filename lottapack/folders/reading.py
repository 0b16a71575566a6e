"""Reading whatever a trainer saved: files, shards and folders. Nothing is ever unpickled beyond tensors."""

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

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")
IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")


def read_checkpoint(path: Path, leaving: LeftOut | None = None) -> dict[str, Any]:
    """The content of a checkpoint file or folder (safetensors or torch.save, in shards too). Raises CheckpointError.

    ``leaving``: of what a folder holds besides its model, what may be left out; it takes note of that.
    """
    if path.is_dir():
        found = next((path / name for name in IN_FOLDER if (path / name).is_file()), None)
        if found is None:
            raise CheckpointError(
                f"{path} holds no checkpoint",
                hint=folder_kinds.next_step(path) or f"Looked for {', '.join(IN_FOLDER)}. Name the file itself.",
            )
        require_own_file(found)
        shards = _shards(found) if found.name.endswith(".index.json") else []
        left = (leaving or LeftOut()).rest(folder_kinds.beside(path, shards))
        if left:
            raise CheckpointError(
                f"{path} holds more weights than {found.name}: {', '.join(left[:5])}, which would not be in the pack",
                hint="Name the file that you mean; or leave the others out by name with ignore (--ignore), as in "
                f"ignore=[{left[0]!r}].",
            )
        path = found
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder", hint="Name a checkpoint's file or folder.")
    if path.name.endswith(PACK_END):
        with suppress(FormatError), open_pack(path):
            raise CheckpointError(f"{path} is a pack, and packed already", hint="See what it holds: lottapack inspect.")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    return read_file(path)


def read_file(path: Path) -> dict[str, Any]:
    """The content of one checkpoint file. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if path.suffix in _PICKLED:
            content = pickles.read(path)
            if isinstance(content, Mapping):
                return dict(content)
            raise CheckpointError(
                f"{path} holds a {type(content).__name__}, not a state_dict",
                hint="Save model.state_dict(), not the model or a single tensor.",
            )
    except CheckpointError:
        raise
    except Exception as fault:
        # Both libraries raise many kinds; a file that asks for more than tensors ends here too.
        raise CheckpointError(
            f"{path} cannot be read as tensors: {_reason(path, fault)}",
            hint="Save the model's state_dict with safetensors.torch.save_file or torch.save.",
        ) from fault
    raise CheckpointError(f"{path}: unknown kind of file", hint=f"Known: .safetensors, {', '.join(_PICKLED)}")


def refuse_over_checkpoint(path: Path, checkpoint: object) -> None:
    """Raise OutputError if a pack written to ``path`` would replace a file of the checkpoint, if that is a path."""
    if isinstance(checkpoint, str | PathLike):
        folder = Path(checkpoint)
        packs = path.name.endswith(PACK_END)
        inside = folder.is_dir() and path.is_file() and not packs and path.parent.samefile(folder)
        refuse_over(path, path if inside else folder)


def _reason(path: Path, fault: Exception) -> str:
    """Why a file is no tensors, in a line; torch would advise to run whatever code a file holds."""
    if path.stat().st_size == 0:
        return "it is empty"
    if isinstance(fault, OSError):
        return fault.strerror or str(fault)
    if path.suffix in _PICKLED:
        return "torch.save did not write it, or it is damaged"
    return str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__


def _shards(index: Path) -> list[str]:
    """The names of the files that an index lists. Raises CheckpointError."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()), key=str)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as fault:
        raise CheckpointError(f"{index} is not an index of shards: {fault}") from fault
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(f"{index} names a shard outside its folder: {shard!r}")
    return shards


def _read_shards(index: Path) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for shard in _shards(index):
        if not (index.parent / shard).is_file():
            raise CheckpointError(f"{index.parent / shard} is missing", hint=f"{index.name} lists it; copy it there.")
        require_own_file(index.parent / shard)
        merged |= read_file(index.parent / shard)
    return merged
