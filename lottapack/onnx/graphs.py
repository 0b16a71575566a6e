"""The graph of a pack's model, traced by the exporters of torch and transformers, with its weights or without."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from lottapack.errors import CheckpointError, OutputError, UnsupportedError
from lottapack.extras import require, without_torch
from lottapack.files.output import refuse_over
from lottapack.files.paths import path_of
from lottapack.files.staging import staged_folder
from lottapack.folders import companions
from lottapack.folders.bases import rewritten
from lottapack.folders.model_folders import PACK_NAME
from lottapack.format.descriptor import FileRecord
from lottapack.format.dtypes import floating_name
from lottapack.format.expected import expected_file
from lottapack.format.files import ADAPTER, GRAPH, files_of
from lottapack.format.packfile import PackFile, open_pack
from lottapack.onnx.external import LOCATION
from lottapack.registry.local import local

if TYPE_CHECKING:
    import torch

DATA = "model.onnx.data"
"""The file of the weights beside a graph."""

Inputs = Mapping[str, "torch.Tensor"] | tuple["torch.Tensor", ...]


def export(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    weights: Literal["file", "none"] = "file",
    inputs: "str | PathLike[str] | Inputs | None" = None,
    dtype: "torch.dtype | str | None" = None,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
) -> Path:
    """Write the graph of a pack's model as ONNX, adapters merged.

    The exporters of transformers and torch trace the model. Sizes of inputs stay free where the exporter finds that
    they can: batch, length of text, length of the cache. While it traces, torch is patched by these exporters for
    the whole process; do not build models in other threads meanwhile.

    Args:
        path: the pack, or a reference as in load().
        output: a folder, made if missing. ``model.onnx`` is written there, and the pack's tokenizer and other files.
        weights: ``"file"`` writes them to ``model.onnx.data``. ``"none"`` writes a graph of some kB that takes its
            weights from a pack, and ``model.lotta.safetensors``: the pack with the graph in it, which
            ``lottapack.onnx.session`` runs without torch.
        inputs: an example for the trace: tensors by the names of ``forward``, or in its order; or a file with them,
            as in lottapack.compare(). By default made up for transformers models of text and images, timm models, and
            modules that begin with a Linear layer. In the graph, an input with the name of a weight ends in ``_input``.
        dtype: converts floating weights, such as ``"float16"``.
        scaffold: which of the pack's scaffolds; by default that of its main seed.
        max_bytes: as in load().
        allow: as in load().

    Returns:
        The path of ``model.onnx``.

    Raises:
        UnsupportedError: torch, onnx or onnxscript is missing, or this model needs an example.
        CheckpointError: the exporter cannot trace the model.
        OutputError: the folder cannot be written.
        LottapackError: and every error that load() raises.

    Source:
        spec/v1/files.md, section 5.

    Examples:
        >>> lottapack.onnx.export("model.lotta.safetensors", "web", weights="none").name
        'model.onnx'
    """
    if weights not in ("file", "none"):
        raise UnsupportedError(f"weights={weights!r} is not a choice", hint='Choose "file" or "none".')
    wanted = None if dtype is None else floating_name(dtype)
    onnx_ir = require("onnx_ir", "onnx", "writing a graph")
    require("onnxscript", "onnx", "writing a graph")
    try:
        from lottapack.loading.load import load
        from lottapack.onnx.tracing import example, traced
    except ModuleNotFoundError as fault:
        raise without_torch(fault, "writing a graph") from fault
    own, folder = local(path), path_of(output, "output")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and a graph needs a folder", hint="Name a folder, which may be new.")
    for name in (GRAPH, DATA, PACK_NAME):
        refuse_over(folder / name, own)
    model = load(own, merge=True, dtype=wanted, scaffold=scaffold, max_bytes=max_bytes, allow=allow)
    with _quiet():
        try:
            graph = traced(model, example(model, inputs))
        except (UnsupportedError, CheckpointError):
            raise
        except Exception as fault:
            raise CheckpointError(
                f"{own}: the exporter cannot trace a {type(model).__name__}: {_first_line(fault)}",
                hint="Give an example of another shape as `inputs`, or see the cause above this error.",
            ) from fault
    with open_pack(own, scaffold) as pack:
        return _write(pack, graph, folder, onnx_ir, with_weights=weights == "file")


def _write(pack: PackFile, graph: Any, folder: Path, onnx_ir: Any, *, with_weights: bool) -> Path:
    _use_names_of_the_pack(pack, graph)
    _free_names_of_weights(graph)
    _tidy(graph)
    leave = (ADAPTER, GRAPH)
    companions.refuse_others(pack, folder, leave=leave)
    gone = [] if with_weights else [DATA]
    with staged_folder(folder, entries=(GRAPH,), gone=gone, sources=[pack.path]) as opened:
        companions.write(pack, opened, leave=leave)
        if with_weights:
            with opened(DATA) as data:
                _move_weights(pack, graph, onnx_ir, DATA, data)
        else:
            _move_weights(pack, graph, onnx_ir, LOCATION, None)
        text = onnx_ir.serde.serialize_model(graph).SerializeToString(deterministic=True)
        if not with_weights:
            with opened(PACK_NAME) as packed:
                packed.write(with_graph(pack, text))
        with opened(GRAPH) as file:
            file.write(text)
    return folder / GRAPH


def _move_weights(pack: PackFile, graph: Any, onnx_ir: Any, location: str, data: BinaryIO | None) -> None:
    """Let a graph take every weight that is a parameter of the pack from outside, and write them one after another."""
    offset = 0
    for name, value in graph.graph.initializers.items():
        held = value.const_value
        if name in pack.descriptor.parameters:
            value.const_value = onnx_ir.ExternalTensor(
                location, offset, held.nbytes, held.dtype, shape=held.shape, name=name, base_dir=""
            )
            if data is not None:
                offset += data.write(held.tobytes())
                offset += data.write(bytes(-offset % _ALIGNED))
        elif held is not None and held.nbytes > _SMALL:
            raise CheckpointError(
                f"{pack.path}: the exporter renamed or computed a weight, {name!r}, so the graph would hold it itself",
                hint="Export the pack as safetensors, and the model with its library's own exporter.",
            )


def with_graph(pack: PackFile, graph: bytes) -> bytes:
    """Return the file of a pack that holds a graph too, in place of the one that it had."""
    import msgspec

    record, data = companions.encoded(graph)
    held: dict[str, FileRecord] = {**files_of(pack.whole), GRAPH: record}
    descriptor = msgspec.structs.replace(pack.whole, files=dict(sorted(held.items())))
    return rewritten(pack, descriptor, {expected_file(GRAPH, record).name: data})


def _use_names_of_the_pack(pack: PackFile, graph: Any) -> None:
    """Call each weight as the pack does; of tied ones, one is in the graph."""
    owners = {name: pack.descriptor.resolve(name) for name in pack.descriptor.parameters}
    for name, value in list(graph.graph.initializers.items()):
        if owners.get(name, name) != name and owners[name] not in graph.graph.initializers:
            del graph.graph.initializers[name]
            value.name = owners[name]
            graph.graph.initializers[value.name] = value


def _free_names_of_weights(graph: Any) -> None:
    """Rename what is called like a weight and is something else: ONNX takes two values of one name for the same.

    The exporters give a buffer ``mask`` and an argument ``mask`` of forward() this one name.
    """
    weights = graph.graph.initializers
    inputs, made = graph.graph.inputs, (value for node in graph.graph.all_nodes() for value in node.outputs)
    values = [*((value, "input") for value in inputs), *((value, "value") for value in made)]
    taken = {*weights, *(value.name for value, _ in values)}
    for value, kind in values:
        name = value.name
        if name in weights and weights[name] is not value:
            while value.name in taken:
                value.name = f"{value.name}_{kind}"
            taken.add(value.name)


def _tidy(graph: Any) -> None:
    """Drop what the exporters note about the source, and what is computed twice or never used."""
    from onnx_ir.passes import common

    for step in (common.ClearMetadataAndDocStringPass, common.CommonSubexpressionEliminationPass):
        step()(graph)
    common.RemoveUnusedNodesPass()(graph)


_SMALL = 1 << 20
"""Bytes of a tensor that is computed when a model is built, and stays in its graph."""
_ALIGNED = 64


def _first_line(fault: BaseException) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters print and warn of off a caller's output."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
