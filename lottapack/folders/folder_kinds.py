"""Recognise folders without a checkpoint of their own, and say which step leads to a checkpoint."""

import re
from collections.abc import Sequence
from pathlib import Path

from lottapack.folders.states import is_trainers
from lottapack.format.container import PACK_END

_NUMBERED = re.compile(r"(?:checkpoint|epoch|step|iter)[-_=]?(\d+)", re.IGNORECASE)
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_SAME_MODEL = re.compile(r"(pytorch_)?model([.-].*)?")
"""Names of whole models, in any format, dtype or number of shards."""

_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def next_step(folder: Path) -> str:
    """Return what to do about a folder without a checkpoint, or an empty text if its kind is unknown."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return ""
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.is_file() and entry.suffix in _FILES]
    sharded = next((entry for entry in [folder, *folders] if _holds(entry, "*.distcp", ".metadata")), None)
    if (folder / "zero_to_fp32.py").is_file():
        return (
            f"It is a DeepSpeed checkpoint. Join its parts with python {folder / 'zero_to_fp32.py'} {folder} FULL, "
            "then pack the folder FULL."
        )
    if sharded is not None:
        return (
            f"{sharded} is a sharded checkpoint of torch.distributed.checkpoint. Join it with python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {sharded} full.pt, then pack full.pt."
        )
    numbered = [(int(match[1]), entry) for entry in folders if (match := _NUMBERED.fullmatch(entry.name))]
    if numbered:
        return f"It contains {len(numbered)} checkpoints. Pack one; the newest is {max(numbered)[1]}."
    for names, what in ((_ADAPTER, "PEFT adapters"), (_WHOLE, "checkpoints")):
        inside = [entry for entry in folders if any((entry / name).is_file() for name in names)]
        if inside:
            listed = ", ".join(str(entry) for entry in inside[:5])
            return f"Its folders contain {what}. Name one: {listed}."
    if any(re.search(r"-\d+-of-\d+$", entry.stem) for entry in files):
        return "It contains shards without their index. Copy model.safetensors.index.json there."
    if files:
        newest = max(files, key=lambda entry: entry.stat().st_mtime)
        return f"It contains {len(files)} files that may be checkpoints. Name one; the newest is {newest}."
    return ""


def beside(folder: Path, shards: Sequence[str]) -> list[str]:
    """Return the names of weight files of other models than the folder's.

    Accelerate saves several models as ``model.safetensors`` and ``model_1.safetensors``; sentence-transformers has a
    folder for each layer with weights. ``shards``: the files of the model.
    """
    others = [
        entry.name
        for entry in sorted(folder.iterdir())
        if entry.is_file() and entry.suffix in _FILES and not entry.name.endswith(PACK_END)
        if not (entry.name in shards or _SAME_MODEL.fullmatch(entry.stem) or is_trainers(entry.stem))
    ]
    if (folder / "modules.json").is_file():
        inside = (entry for entry in sorted(folder.iterdir()) if entry.is_dir())
        others += [entry.name for entry in inside if any((entry / name).is_file() for name in _WHOLE)]
    return others


def _holds(folder: Path, *patterns: str) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)
