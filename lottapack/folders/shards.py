"""Split checkpoints into several files, with the index that transformers reads."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from lottapack.format.container import TensorInfo, layout

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD = 5 * 10**9
"""The default size of a shard in bytes."""

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def split(tensors: Iterable[tuple[str, str, tuple[int, ...]]], limit: int) -> dict[str, list[TensorInfo]]:
    """Assign tensors, given as (name, dtype, shape), to files, in the order of their names.

    A file has at most ``limit`` bytes of tensors, unless a single tensor is larger.
    """
    groups: list[list[TensorInfo]] = [[]]
    filled = 0
    for info in sorted(layout(tensors), key=lambda info: info.name):
        if groups[-1] and filled + info.nbytes > limit:
            groups.append([])
            filled = 0
        groups[-1].append(info)
        filled += info.nbytes
    placed = [layout((info.name, info.dtype, info.shape) for info in group) for group in groups]
    if len(placed) == 1:
        return {WEIGHTS: placed[0]}
    return {f"model-{number:05}-of-{len(placed):05}.safetensors": group for number, group in enumerate(placed, 1)}


def index_bytes(files: dict[str, list[TensorInfo]]) -> bytes:
    """Return the index of shards as transformers writes it."""
    where = {info.name: file for file, placed in files.items() for info in placed}
    total = sum(info.nbytes for placed in files.values() for info in placed)
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2, sort_keys=True)
    return text.encode() + b"\n"


def left_over(folder: Path, written: Iterable[str]) -> list[str]:
    """Return the shards of another checkpoint in a folder, which readers would take for parts of this one."""
    return sorted({path.name for path in folder.glob("model*") if _SHARD.fullmatch(path.name)} - set(written))


def size_of(path: Path) -> int:
    """Return the bytes of a weight file; for an index, those of all its shards."""
    if path.name != INDEX:
        return path.stat().st_size
    shards = set(json.loads(path.read_text("utf-8"))["weight_map"].values())
    return sum((path.parent / shard).stat().st_size for shard in shards)
