"""What a folder without a checkpoint of its own is instead, and which step leads to a checkpoint."""

import re
from collections.abc import Sequence
from pathlib import Path

from lottapack.folders.states import is_trainers
from lottapack.format.container import PACK_END

_NUMBERED = re.compile(r"(?:checkpoint|epoch|step|iter)[-_=]?(\d+)", re.IGNORECASE)
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_SAME_MODEL = re.compile(r"(pytorch_)?model([.-].*)?")
"""The model in another format, dtype or number of shards."""

_WHOLE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def next_step(folder: Path) -> str:
    """What to do about a folder in which no checkpoint lies, or nothing where none of the known kinds fits."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return ""
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry.is_file() and entry.suffix in _FILES]
    sharded = next((one for one in [folder, *folders] if _holds(one, "*.distcp", ".metadata")), None)
    if (folder / "zero_to_fp32.py").is_file():
        return (
            f"It is a checkpoint of DeepSpeed. Join its parts: python {folder / 'zero_to_fp32.py'} {folder} FULL; "
            "then pack the folder FULL."
        )
    if sharded is not None:
        return (
            f"{sharded} is a sharded checkpoint of torch.distributed.checkpoint. Join it: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {sharded} full.pt; then pack full.pt."
        )
    numbered = [(int(match[1]), entry) for entry in folders if (match := _NUMBERED.fullmatch(entry.name))]
    if numbered:
        return f"It holds {len(numbered)} checkpoints; pack one. The newest is {max(numbered)[1]}."
    for names, what in ((_ADAPTER, "PEFT adapters"), (_WHOLE, "checkpoints")):
        inside = [entry for entry in folders if any((entry / name).is_file() for name in names)]
        if inside:
            listed = ", ".join(str(entry) for entry in inside[:5])
            return f"Its folders hold {what}; name one: {listed}."
    if any(re.search(r"-\d+-of-\d+$", entry.stem) for entry in files):
        return "It holds shards without their index (model.safetensors.index.json): copy that there."
    if files:
        newest = max(files, key=lambda entry: entry.stat().st_mtime)
        return f"It holds {len(files)} files that could be checkpoints; name one. The newest is {newest}."
    return ""


def beside(folder: Path, shards: Sequence[str]) -> list[str]:
    """The names of files with weights that are of another model than that of the folder.

    Accelerate saves several models as ``model.safetensors`` and ``model_1.safetensors``; of sentence-transformers each
    layer with weights has a folder. ``shards``: the files of the model.
    """
    found = [
        entry.name
        for entry in sorted(folder.iterdir())
        if entry.is_file() and entry.suffix in _FILES and not entry.name.endswith(PACK_END)
        if not (entry.name in shards or _SAME_MODEL.fullmatch(entry.stem) or is_trainers(entry.stem))
    ]
    if (folder / "modules.json").is_file():
        inside = (entry for entry in sorted(folder.iterdir()) if entry.is_dir())
        found += [entry.name for entry in inside if any((entry / name).is_file() for name in _WHOLE)]
    return found


def _holds(folder: Path, *patterns: str) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in patterns)
