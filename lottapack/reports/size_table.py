"""The paper's Table 10 beside measured packs (arXiv 2604.08749)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from lottapack.errors import UnsupportedError
from lottapack.format.codings import coding_of
from lottapack.format.descriptor import Adapted, Stored, Tied
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.shapes import numel
from lottapack.limits import check_memory
from lottapack.progress import Progress
from lottapack.reports.llamas import LLAMAS, MIB, VOCABULARY, Llama, scale_of, trained_state

FORMS: Final = {"fp16": None, "8-bit embeddings": "int8-block64", "4-bit embeddings": "normal4-block64"}
"""The packs of each Llama: everything trained in fp16, with or without a coding for the embeddings."""


@dataclass(frozen=True, slots=True)
class SizeRow:
    """A pack beside the paper's numbers for its scale. ``size`` in bytes, ``mib`` and the paper's sizes in MiB.

    ``scale`` and what depends on it are None for a model that is not in the paper. ``of_paper``: ``mib`` over the
    paper's LottaLoRA. ``of_fp16``: ``size`` over that of the same model packed in fp16, if that is in the table.
    """

    scale: str | None
    form: str
    size: int
    mib: float
    numel: int
    bits_per_weight: float
    paper_fp16: int | None = None
    paper_4bit: int | None = None
    paper_lottalora: int | None = None
    of_paper: float | None = None
    of_fp16: float | None = None
    path: Path | None = None


def compare(paths: Iterable[str | PathLike[str]]) -> tuple[SizeRow, ...]:
    """Return a row for each pack, from its header. Raises FormatError."""
    rows = []
    for path in paths:
        with open_pack(path) as pack:
            rows.append(_row(pack, _form(pack), Path(path)))
    return tuple(rows)


def measure(
    scales: Sequence[str] = tuple(LLAMAS), *, shapes: dict[str, Llama] | None = None, progress: Progress | None = None
) -> tuple[SizeRow, ...]:
    """Pack the paper's Llamas in each of FORMS, and return the sizes of the files.

    What would be trained is drawn at random; backbones are generated piece by piece for their fingerprints. The files
    are in a temporary folder and are removed. The largest Llama takes some seconds a pack, and 1.3 GB of memory in all.

    Args:
        scales: names of LLAMAS, or of ``shapes``.
        shapes: other Llamas by name.
        progress: called with the packs done so far and in all.

    Raises:
        UnsupportedError: unknown scale, or transformers is not installed. LimitError, OutputError.
    """
    known = LLAMAS if shapes is None else shapes
    unknown = [scale for scale in scales if scale not in known]
    if unknown:
        raise UnsupportedError(f"unknown Llama {unknown[0]!r}", hint=f"Choose from {', '.join(known)}.")
    from lottapack.packing.compression import Compression
    from lottapack.packing.pack import pack

    rows: list[SizeRow] = []
    total = len(scales) * len(FORMS)
    for scale in scales:
        shape = known[scale]
        # The memory for the embeddings in float32, as decoded, and as codes.
        check_memory(f"Llama {scale}", 10 * VOCABULARY * shape.width + 2**28, None)
        state = trained_state(shape)
        fp16 = 0
        for form, coding in FORMS.items():
            if progress:
                progress(len(rows), total)
            with TemporaryDirectory() as folder:
                form_of = Compression(dtype="float16", coding=coding)
                packed = pack(state, Path(folder) / f"{scale}.lotta.safetensors", compression=form_of)
                with open_pack(packed.path) as opened:
                    fp16 = fp16 or opened.file_size
                    rows.append(_row(opened, form, None, fp16, scale, shape))
        if progress:
            progress(len(rows), total)
    return tuple(rows)


def _row(
    pack: PackFile,
    form: str,
    path: Path | None,
    fp16: int | None = None,
    scale: str | None = None,
    shape: Llama | None = None,
) -> SizeRow:
    descriptor, size = pack.descriptor, pack.file_size
    if shape is None:
        scale = scale_of(descriptor.architecture.config)
        shape = LLAMAS[scale] if scale else None
    elements = sum(numel(e.shape) for e in descriptor.parameters.values() if not isinstance(e, Tied))
    return SizeRow(
        scale=scale,
        form=form,
        size=size,
        mib=size / MIB,
        numel=elements,
        bits_per_weight=8 * size / elements if elements else 0.0,
        paper_fp16=shape.fp16 if shape else None,
        paper_4bit=shape.four_bit if shape else None,
        paper_lottalora=shape.lottalora if shape else None,
        of_paper=size / MIB / shape.lottalora if shape else None,
        of_fp16=size / fp16 if fp16 else None,
        path=path,
    )


def _form(pack: PackFile) -> str:
    """Return how a pack stores its largest embedding: a coding, a dtype, or generated."""
    entries = [entry for entry in pack.descriptor.parameters.values() if not isinstance(entry, Tied)]
    stored = [entry for entry in entries if isinstance(entry, Stored) and entry.group == "embedding"]
    if not stored:
        adapted = any(isinstance(entry, Adapted) and entry.fan_in_fan_out for entry in entries)
        return "adapted embeddings" if adapted else "no embeddings"
    largest = max(stored, key=lambda entry: numel(entry.shape))
    coding = coding_of(largest)
    return f"{coding.id if coding else largest.dtype} embeddings"
