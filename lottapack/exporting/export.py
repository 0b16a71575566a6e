"""export(): write full checkpoints with merged adapters, tensor by tensor, or folders with a pack."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import numpy as np

from lottapack import rng
from lottapack.arch.trust import allowing
from lottapack.errors import LeftOutWarning, OutputError, UnsupportedError
from lottapack.extras import without_torch
from lottapack.files.output import atomic_file, refuse_over
from lottapack.files.paths import path_of
from lottapack.files.staging import staged_folder
from lottapack.folders import companions
from lottapack.folders.model_folders import (
    PACK_NAME,
    is_folder,
    json_bytes,
    require_transformers,
    transformers_config,
    write_pack_folder,
)
from lottapack.folders.shards import INDEX, MAX_SHARD, WEIGHTS, index_bytes, left_over, split
from lottapack.format import container, dtypes
from lottapack.format.codings import coding_of
from lottapack.format.descriptor import Stored, Tied
from lottapack.format.files import ADAPTER, GENERATION, GRAPH, files_of
from lottapack.format.packfile import PackFile, open_pack
from lottapack.format.shapes import numel
from lottapack.limits import bytes_of, check_disk, check_memory
from lottapack.progress import Progress, require_functions
from lottapack.registry.local import local
from lottapack.weights import arrays
from lottapack.weights.loaded_size import peak_bytes

if TYPE_CHECKING:
    import torch

Format = Literal["safetensors", "transformers", "transformers-pack", "peft", "onnx", "gguf", "files"]

_PLAIN = ("safetensors", "transformers")
_USED_BY = {
    "device": _PLAIN,
    "max_shard_size": _PLAIN,
    "max_bytes": (*_PLAIN, "onnx", "gguf"),
    "dtype": (*_PLAIN, "onnx", "gguf", "transformers-pack"),
}
"""The formats that use an option. The others refuse it."""


def export(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    format: Format = "safetensors",  # noqa: A002 (the option's name)
    dtype: "torch.dtype | str | None" = None,
    scaffold: str | None = None,
    device: "str | torch.device" = "cpu",
    max_shard_size: int | str | None = None,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Write a pack in a format that other tools open. The same pack gives the same files on every device.

    Args:
        path: the pack, or a reference as in load().
        output: for ``"safetensors"`` a file, or a folder for ``model.safetensors``, or for shards and their index,
            ``model.safetensors.index.json``; for the other formats a folder, created if missing.
        format: ``"safetensors"`` writes every entry of the plain state_dict, including tied ones. ``"transformers"``
            leaves ties to the library and adds ``config.json``, for ``from_pretrained``. ``"transformers-pack"`` writes
            the pack itself and ``config.json``, from which ``from_pretrained`` rebuilds the model if lottapack is
            imported. ``"peft"`` writes a PEFT adapter, and in ``base`` the pack of its backbone. ``"onnx"`` writes
            the model's graph with its weights (see ``lottapack.onnx.export``). These four also write the pack's
            tokenizer and other files; ``"files"`` writes only those. ``"gguf"`` writes a Llama and its tokenizer as
            one file for llama.cpp; for it, ``output`` is a file, or a folder for ``model.gguf``.
        dtype: a torch.dtype or its name, such as ``"float16"``, to which floating tensors are converted (for
            ``"transformers-pack"``, when the model is loaded); None keeps the recorded dtypes. For ``"gguf"`` also
            ``"q8_0"``.
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed.
        device: where weights are generated and merged. On the CPU NumPy does it: torch is only imported for other
            devices, for the format ``"peft"``, and for packs of ``torch-cpu``.
        max_shard_size: bytes, or text such as ``"5GB"``: larger weights are written to a folder of several files. By
            default a file holds everything, and each file of a folder at most 5 GB. A format refuses ``device``,
            ``dtype``, ``max_shard_size`` and ``max_bytes`` if it does not use them.
        max_bytes: the largest checkpoint to write; by default what the disk allows.
        allow: as in load(), where the module must be built: for the format ``"peft"`` and packs of ``torch-cpu``.
        progress: called with the bytes written so far and in all.

    Returns:
        The path of the file with the weights, or of the shards' index.

    Tensors are generated, merged and written a few MiB at a time, so memory does not grow with the model. The files
    appear once all are complete; a previous checkpoint in the folder is then removed.

    A LeftOutWarning names tensors that a ``"transformers"`` folder gives another dtype, such as the rotary frequencies
    of a model that was cast to bfloat16: no checkpoint holds them.

    Raises:
        FormatError, IntegrityError, LimitError, OutputError, UnsupportedError, NotAllowedError: as in load(). What was
            at ``output`` stays then.
        ScaffoldError: the pack does not have the named scaffold.
        InvalidReferenceError, RegistryError: for a reference.

    Source:
        spec/v1/merge.md.

    Examples:
        >>> lottapack.export("model.lotta.safetensors", "full.safetensors").name
        'full.safetensors'
    """
    if format not in get_args(Format):
        raise UnsupportedError(f"unknown format {format!r}", hint=f"Choose one of {', '.join(get_args(Format))}.")
    target = path_of(output, "output")
    require_functions(progress=progress)
    _refuse_unused(format, device, dtype=dtype, max_shard_size=max_shard_size, max_bytes=max_bytes)
    if format in ("onnx", "gguf"):
        return _write_graph_or_gguf(format, path, output, dtype, scaffold, max_bytes, allow, progress)
    wanted = None if dtype is None else dtypes.floating_name(dtype)
    pieces = _array_pieces if str(device) == "cpu" else _tensor_pieces(device)
    limit = None if max_shard_size is None else bytes_of(max_shard_size, "max_shard_size")
    if limit is not None and target.is_file():
        raise OutputError(f"cannot write shards to {output}: it is a file", hint="Pass a folder, which may be new.")
    with allowing(allow), open_pack(local(path), scaffold) as pack:
        if format == "files":
            return companions.write_files(pack, target)
        for written in (target, target / WEIGHTS, target / "base" / PACK_NAME):
            refuse_over(written, pack.path)
        if format == "peft":
            return _write_adapter(pack, target)
        if format != "safetensors":
            require_transformers(pack)
        if format == "transformers-pack":
            return write_pack_folder(pack, target, wanted)
        folder = target if format == "transformers" or is_folder(output) or limit is not None else None
        tensors = _tensors(pack, wanted, with_ties=format == "safetensors")
        total = sum(info.nbytes for info in container.layout(tensors))
        if max_bytes is not None:
            check_memory(str(path), total, max_bytes)
        check_disk(str(path), total, target.parent)
        coded = [entry for entry in pack.descriptor.parameters.values() if coding_of(entry)]
        largest = max((numel(e.shape) * dtypes.ITEMSIZE[e.dtype] for e in coded if isinstance(e, Stored)), default=0)
        check_memory(str(path), 2 * largest, None)
        if pack.descriptor.rng.id == rng.TORCH_CPU:
            check_memory(str(path), peak_bytes(pack), None)
            pieces = _tensor_pieces(device)
        writer = _Writer(pack, pieces, total, progress)
        if folder is None:
            with atomic_file(target) as file:
                writer.write(file, container.layout(tensors))
            return target
        config = _transformers_config(pack, wanted) if format == "transformers" else None
        return _write_folder(writer, folder, split(tensors, limit or MAX_SHARD), config)


def _transformers_config(pack: PackFile, dtype: str | None) -> dict[str, Any]:
    """Return the ``config.json``. Warns of tensors that its model computes in another dtype than the packed model."""
    computed = pack.descriptor.computed or {}
    if computed:
        name = next(iter(computed))
        more = f" and {len(computed) - 1} more" if len(computed) > 1 else ""
        warnings.warn(
            f"{name}{more}: the packed model had it in {computed[name]}. No checkpoint holds it, and from_pretrained "
            'gives it another dtype, so outputs may differ a little. The format "transformers-pack" keeps the dtype',
            LeftOutWarning,
            stacklevel=4,
        )
    return transformers_config(pack.descriptor, dtype)


def _refuse_unused(format: Format, device: object, **options: object) -> None:  # noqa: A002 (the option's name)
    """Raise UnsupportedError for an option that the format does not use."""
    given = options | {"device": None if str(device) == "cpu" else device}
    unused = [f"`{name}`" for name, value in given.items() if value is not None and format not in _USED_BY[name]]
    if unused:
        raise UnsupportedError(
            f"the format {format} does not use {' and '.join(unused)}", hint=f"Leave out {' and '.join(unused)}."
        )


def _write_graph_or_gguf(
    form: Format,
    path: str | PathLike[str],
    output: str | PathLike[str],
    dtype: "torch.dtype | str | None",
    scaffold: str | None,
    max_bytes: int | None,
    allow: str | Iterable[str],
    progress: Progress | None,
) -> Path:
    if form == "onnx":
        from lottapack import onnx

        return onnx.export(path, output, dtype=dtype, scaffold=scaffold, max_bytes=max_bytes, allow=allow)
    from lottapack.exporting import gguf

    wanted = None if dtype is None else gguf.Q8_0 if dtype == gguf.Q8_0 else dtypes.floating_name(dtype)
    target = Path(output) / gguf.NAME if is_folder(output) else Path(output)
    with open_pack(local(path), scaffold) as pack:
        refuse_over(target, pack.path)
        return gguf.write(pack, target, wanted, max_bytes, progress)


def _write_adapter(pack: PackFile, folder: Path) -> Path:
    try:
        from lottapack.peft.writing import write_adapter
    except ModuleNotFoundError as fault:
        raise without_torch(fault, "exporting an adapter") from fault
    return write_adapter(pack, folder)


def _write_folder(
    writer: "_Writer", folder: Path, files: dict[str, list[container.TensorInfo]], config: dict[str, Any] | None
) -> Path:
    """Write a folder's files, and last the one that readers open first; return its path."""
    entry = WEIGHTS if WEIGHTS in files else INDEX
    gone = left_over(folder, files)
    if config is not None:
        companions.refuse_others(writer.pack, folder, leave=(ADAPTER, GRAPH))
        gone += [] if GENERATION in files_of(writer.pack.descriptor) else [GENERATION]  # remove another model's
    with staged_folder(folder, entries=(WEIGHTS, INDEX), gone=gone, sources=[writer.pack.path]) as opened:
        if config is not None:
            companions.write(writer.pack, opened, leave=(ADAPTER, GRAPH))
            with opened("config.json") as file:
                file.write(json_bytes(config))
        for name, placed in files.items():
            with opened(name) as file:
                writer.write(file, placed)
        if entry == INDEX:
            with opened(INDEX) as file:
                file.write(index_bytes(files))
    return folder / entry


def _tensors(pack: PackFile, dtype: str | None, *, with_ties: bool) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return name, dtype and shape of what is written."""
    wanted = []
    for name, entry in pack.descriptor.parameters.items():
        if isinstance(entry, Tied) and not with_ties:
            continue
        owner = pack.descriptor.parameters[pack.descriptor.resolve(name)]
        assert not isinstance(owner, Tied)
        wanted.append((name, dtype if dtype and "float" in owner.dtype else owner.dtype, owner.shape))
    return wanted


Pieces = Callable[[PackFile, str, str], Iterator[Any]]
"""``pieces(pack, name, dtype)``: yields one entry in a dtype piece by piece, as buffers in row-major order."""


class _Writer:
    """Writes the files of one export, whose tensors are generated while they are written."""

    def __init__(self, pack: PackFile, pieces: Pieces, total: int, progress: Progress | None) -> None:
        self.pack, self.pieces = pack, pieces
        self.done, self.total, self.progress = 0, total, progress

    def write(self, file: BinaryIO, placed: list[container.TensorInfo]) -> None:
        """Write one safetensors file."""
        file.write(container.header_bytes(placed, {"format": "pt"}))
        for info in placed:
            for piece in self.pieces(self.pack, self.pack.descriptor.resolve(info.name), info.dtype):
                self._tell(file.write(piece))

    def _tell(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(self.done, self.total)


def _array_pieces(pack: PackFile, name: str, dtype: str) -> Iterator[Any]:
    """Yield pieces on the CPU, by NumPy and the compiled kernels."""
    recorded = pack.descriptor.parameters[name].dtype  # type: ignore[union-attr]
    for piece in arrays.pieces(pack, name):
        yield arrays.converted(piece, recorded, dtype).view(np.uint8).data


def _tensor_pieces(device: "str | torch.device") -> Pieces:
    """Return pieces by torch, for another device or weights that torch draws."""
    try:
        import torch
    except ModuleNotFoundError as fault:
        raise without_torch(fault, f"exporting on {device}, or what torch drew,") from fault

    from lottapack.device import resolve
    from lottapack.weights.part_tensors import PlainTensor
    from lottapack.weights.rebuild import tensor_bytes

    where = resolve(device)

    @torch.no_grad()
    def pieces(pack: PackFile, name: str, dtype: str) -> Iterator[Any]:
        for piece in PlainTensor(pack, name, where).pieces():
            yield tensor_bytes(piece.to(dtypes.torch_dtype(dtype)).cpu().contiguous())

    return pieces
