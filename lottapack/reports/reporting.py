"""report(): compare the size of a pack with the checkpoint that it replaces, from its header and without torch."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from lottapack.display import Displayed, Facts
from lottapack.errors import CheckpointError
from lottapack.files.paths import path_of
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Constant, Stored, Tied, role_of
from lottapack.format.expected import expected_file
from lottapack.format.files import files_of
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.shapes import numel
from lottapack.limits import size_text
from lottapack.registry.local import local
from lottapack.weights.loaded_size import memory_by_backbone

__all__ = ["Report", "report"]

BITS = {"float32": 32.0, "fp16": 16.0, "8-bit": 8.5, "4-bit": 4.5}
"""The bits of a weight in each form of the full checkpoint; quantised forms have an fp16 scale for each 32 weights."""

LINKS = (10, 100, 1000)
"""The speeds of links in Mbit/s."""

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
    """A form of the model. ``ratio``: its size over this pack's. ``seconds``: download time by link in Mbit/s."""

    label: str
    size: int
    ratio: float
    seconds: dict[int, float]


@dataclass(frozen=True, slots=True, repr=False)
class Report(Displayed):
    """The result of report(). All sizes are in bytes; ``by_role`` and ``by_group`` add up to the pack's size.

    ``bits_by_group``: the bits in the file for each number of a group. ``saved``: the bytes that each step saves
    compared with the tensors of the full model in their own dtypes; costs are negative, and the sum is the difference.
    ``memory``: the bytes of the loaded model by the ``backbone`` that load() uses (memory_by_backbone()).
    """

    path: Path
    size: int
    numel: int
    bits_per_weight: float
    forms: tuple[Row, ...]
    by_role: dict[str, int] = field(default_factory=dict)
    by_group: dict[str, int] = field(default_factory=dict)
    bits_by_group: dict[str, float] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def in_full(self) -> dict[str, float]:
        """The share of the model's numbers that the pack stores one by one, by group, the largest first."""
        counts = {
            group: 8 * self.by_group[group] / bits / self.numel
            for group, bits in self.bits_by_group.items()
            if group != "adapters" and bits
        }
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def _facts(self) -> Facts:
        line = f"{size_text(self.size)}, {self.bits_per_weight:.3g} bits per weight"
        more = {label: size_text(size) for label, size in self.by_group.items() if size}
        columns = ("form", "size", "times this pack", *(f"seconds at {link} Mbit/s" for link in LINKS))
        rows = [
            (row.label, size_text(row.size), f"{row.ratio:.3g}", *(f"{row.seconds[link]:.3g}" for link in LINKS))
            for row in self.forms
        ]
        return Facts(self.path, line, more, columns, rows)


def report(path: str | PathLike[str], *, against: str | PathLike[str] | None = None) -> Report:
    """Compare a pack with the full checkpoint in float32, fp16, 8-bit and 4-bit, and with a real one if given.

    Quantised sizes count 32-weight blocks with one fp16 scale for tensors of two or more dimensions; the others
    (norms, biases) stay in fp16, and integer buffers as they are. Tied weights count once.

    Args:
        path: the pack, or a reference as in load().
        against: a checkpoint file, or a folder of safetensors or torch files, to measure.

    Raises:
        FormatError: the pack cannot be read.
        CheckpointError: ``against`` does not contain a checkpoint.
        InvalidReferenceError, RegistryError: as in load(), for a reference.

    Source:
        spec/v1/container.md for the sizes; the paper's tables for the forms beside it.

    Examples:
        >>> [row.label for row in lottapack.report("model.lotta.safetensors").forms]
        ['this pack', 'float32', 'fp16', '8-bit', '4-bit']
    """
    with open_pack(local(path)) as pack:
        size = pack.file_size
        forms = [("this pack", size)]
        if against is not None:
            whole = path_of(against, "against")
            forms.append((whole.name, checkpoint_size(whole)))
        forms += [(label, full_size(pack, label)) for label in BITS]
        elements = sum(numel(e.shape) for e in pack.descriptor.parameters.values() if not isinstance(e, Tied))
        return Report(
            path=pack.path,
            size=size,
            numel=elements,
            bits_per_weight=8 * size / elements if elements else 0.0,
            forms=tuple(Row(label, n, n / size, {link: 8 * n / (link * 1e6) for link in LINKS}) for label, n in forms),
            by_role=_by_role(pack),
            by_group=_by_group(pack),
            bits_by_group=_bits_by_group(pack),
            saved=_saved(pack),
            memory=memory_by_backbone(pack),
        )


def full_size(pack: PackFile, form: str) -> int:
    """Return the bytes of the plain model's tensors in one of the forms of BITS."""
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
    """Return the bytes of a checkpoint on disk: a file, or the weights in a folder."""
    if path.is_dir():
        kinds = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
        files = next((found for kind in kinds if (found := sorted(path.glob(kind)))), [])
    else:
        files = [path] if path.is_file() else []
    total = sum(file.stat().st_size for file in files)
    if not total:
        raise CheckpointError(f"{path} does not contain a checkpoint", hint="Pass a file with weights, or its folder.")
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


def _bits_by_group(pack: PackFile) -> dict[str, float]:
    sizes, numbers = _by_group(pack), dict[str, int]()
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Adapted):
            count = sum(numel(tensor.shape) for tensor in pack.adapter(name).values())
            numbers["adapters"] = numbers.get("adapters", 0) + count
        elif isinstance(entry, Stored):
            label = _GROUP_LABEL[entry.group]
            numbers[label] = numbers.get(label, 0) + numel(entry.shape)
    return {label: 8 * sizes[label] / count for label, count in numbers.items() if count}


def _saved(pack: PackFile) -> dict[str, int]:
    """Return what random weights, constants and codings save, and what the rest of the file costs."""
    saved = {"random weights": 0, "adapters of these": 0, "constants": 0, "codings": 0}
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied):
            continue
        plain = numel(entry.shape) * dtypes.ITEMSIZE[entry.dtype]
        if isinstance(entry, Stored):
            saved["codings"] += plain - _held(pack, name)
        elif isinstance(entry, Constant):
            saved["constants"] += plain
        else:
            adapter = pack.adapter(name).values()
            decoded = sum(numel(tensor.shape) * dtypes.ITEMSIZE[tensor.dtype] for tensor in adapter)
            saved["random weights"] += plain
            saved["adapters of these"] -= decoded
            saved["codings"] += decoded - _held(pack, name)
    rest = _by_group(pack)
    saved |= {label: -rest[label] for label in ("tables", "files", "descriptor") if label in rest}
    return {label: size for label, size in saved.items() if size}


def _held(pack: PackFile, name: str) -> int:
    """Return the bytes of tensors that the file holds for a parameter."""
    entry = pack.descriptor.parameters[name]
    return pack.held_bytes(name) if isinstance(entry, Stored | Adapted) else 0


def _with_rest(pack: PackFile, sizes: dict[str, int]) -> dict[str, int]:
    files = sum(
        pack.tensors[expected_file(name, record).name].nbytes for name, record in files_of(pack.descriptor).items()
    )
    tables = pack.file_size - pack.data_start - sum(sizes.values()) - files
    rest = {"tables": tables, "files": files}
    return {**sizes, **{name: size for name, size in rest.items() if size}, "descriptor": pack.data_start}
