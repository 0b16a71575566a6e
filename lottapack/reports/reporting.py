"""report(): how large a pack is beside the checkpoint that it replaces. Reads only the header; needs no torch."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from lottapack.errors import CheckpointError
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Stored, Tied, role_of
from lottapack.format.expected import expected_file
from lottapack.format.files import files_of
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.shapes import numel
from lottapack.weights.loaded_size import memory_by_backbone

__all__ = ["Report", "report"]

BITS = {"float32": 32.0, "fp16": 16.0, "8-bit": 8.5, "4-bit": 4.5}
"""Bits of a weight in each form of the full checkpoint; the quantised ones carry an fp16 scale for each 32 weights."""

LINKS = (10, 100, 1000)
"""Speeds of links in Mbit/s."""

_GROUP_LABEL = {
    "embedding": "embeddings",
    "head": "heads",
    "norm": "norms",
    "bias": "biases",
    "buffer": "buffers",
    "other": "other tensors",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A form of the model. ``ratio``: how many times this pack's size. ``seconds``: download by link in Mbit/s."""

    label: str
    size: int
    ratio: float
    seconds: dict[int, float]


@dataclass(frozen=True, slots=True)
class Report:
    """What report() returns. All sizes in bytes; ``by_role`` and ``by_group`` add up to the pack's size.

    ``memory``: what the loaded model takes, by the ``backbone`` that load() is told (memory_by_backbone()).
    """

    path: Path
    size: int
    numel: int
    bits_per_weight: float
    forms: tuple[Row, ...]
    by_role: dict[str, int] = field(default_factory=dict)
    by_group: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)


def report(path: str | PathLike[str], *, against: str | PathLike[str] | None = None) -> Report:
    """Compare a pack with the full checkpoint in float32, fp16, 8-bit and 4-bit, and with a real one if it is given.

    Quantised sizes count 32-weight blocks with one fp16 scale for tensors of two or more dimensions; the others
    (norms, biases) stay in fp16, and integer buffers as they are. Tied weights count once.

    Args:
        path: the pack.
        against: a checkpoint file, or a folder of safetensors or torch files, to measure.

    Raises:
        FormatError: the pack cannot be read. CheckpointError: there is nothing to measure at ``against``.
    """
    with open_pack(path) as pack:
        size = pack.file_size
        forms = [("this pack", size)]
        if against is not None:
            forms.append((Path(against).name, checkpoint_size(Path(against))))
        forms += [(label, full_size(pack, label)) for label in BITS]
        elements = sum(numel(e.shape) for e in pack.descriptor.parameters.values() if not isinstance(e, Tied))
        return Report(
            path=Path(path),
            size=size,
            numel=elements,
            bits_per_weight=8 * size / elements if elements else 0.0,
            forms=tuple(Row(label, n, n / size, {link: 8 * n / (link * 1e6) for link in LINKS}) for label, n in forms),
            by_role=_by_role(pack),
            by_group=_by_group(pack),
            memory=memory_by_backbone(pack),
        )


def full_size(pack: PackFile, form: str) -> int:
    """Bytes of the plain model's tensors in one of the forms of BITS."""
    total = 0
    for entry in pack.descriptor.parameters.values():
        if isinstance(entry, Tied):
            continue
        count = numel(entry.shape)
        if "float" not in entry.dtype:
            total += count * dtypes.ITEMSIZE[entry.dtype]
        elif BITS[form] >= 16 or len(entry.shape) < 2:
            total += count * int(max(BITS[form], 16)) // 8
        else:
            blocks = -(-count // 32)
            total += -(-count * int(BITS[form]) // 8) + 2 * blocks
    return total


def checkpoint_size(path: Path) -> int:
    """Bytes of a checkpoint on disk: a file, or the weights in a folder."""
    if path.is_dir():
        kinds = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
        files = next((found for kind in kinds if (found := sorted(path.glob(kind)))), [])
    else:
        files = [path] if path.is_file() else []
    total = sum(file.stat().st_size for file in files)
    if not total:
        raise CheckpointError(f"{path} holds no checkpoint to measure", hint="Name a file of weights or its folder.")
    return total


def _by_role(pack: PackFile) -> dict[str, int]:
    sizes = dict.fromkeys(("adapted", "stored", "seeded", "constant", "tied"), 0)
    for name, entry in pack.descriptor.parameters.items():
        sizes[role_of(entry)] += _held(pack, name)
    return _with_rest(pack, sizes)


def _by_group(pack: PackFile) -> dict[str, int]:
    sizes = {"adapters": 0}
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Adapted):
            sizes["adapters"] += _held(pack, name)
        elif isinstance(entry, Stored):
            label = _GROUP_LABEL[entry.group]
            sizes[label] = sizes.get(label, 0) + _held(pack, name)
    return _with_rest(pack, sizes)


def _held(pack: PackFile, name: str) -> int:
    """Bytes of tensors that the file holds for a parameter."""
    entry = pack.descriptor.parameters[name]
    return pack.held_bytes(name) if isinstance(entry, Stored | Adapted) else 0


def _with_rest(pack: PackFile, sizes: dict[str, int]) -> dict[str, int]:
    files = sum(
        pack.tensors[expected_file(name, record).name].nbytes for name, record in files_of(pack.descriptor).items()
    )
    tables = pack.file_size - pack.data_start - sum(sizes.values()) - files
    rest = {"tables": tables, "files": files}
    return {**sizes, **{name: size for name, size in rest.items() if size}, "descriptor": pack.data_start}
