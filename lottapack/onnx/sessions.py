"""Sessions of ONNX Runtime whose weights a pack gives: neither torch nor the model's library is needed."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottapack import rng
from lottapack.errors import CheckpointError, SignatureError, UnsupportedError
from lottapack.extras import require
from lottapack.files.links import require_own_file
from lottapack.files.paths import path_of
from lottapack.format.descriptor import Stored, Tied
from lottapack.format.files import GRAPH, content, files_of
from lottapack.format.packfile import PackFile
from lottapack.limits import check_memory
from lottapack.loading.reading import Reading
from lottapack.onnx.external import AGAIN, ELEMENTS, External, externals, shown
from lottapack.weights import arrays

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


_FLOAT32 = (
    "ONNX Runtime has few operators in bfloat16 on a CPU. Export the graph in float32: "
    "lottapack.onnx.export(pack, folder, weights='none', dtype=\"float32\")."
)


def session(
    path: str | PathLike[str],
    *,
    graph: str | PathLike[str] | None = None,
    providers: list[str] | None = None,
    scaffold: str | None = None,
    max_bytes: int | None = None,
    require_signature: str | PathLike[str] | None = None,
) -> "InferenceSession":
    """Open the graph of a pack in ONNX Runtime, over the pack's merged weights.

    The weights are generated and merged by NumPy and the compiled kernels, and handed to the runtime in memory.

    Args:
        path: the pack, or a reference as in load().
        graph: an ``.onnx`` file without weights, as ``lottapack export --format onnx --weights none`` writes it; by
            default the graph in the pack.
        providers: names of ONNX Runtime's execution providers; by default ``["CPUExecutionProvider"]``.
        scaffold: which of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory that the weights may take; by default what is free.
        require_signature: a public key in PEM, as in load(). A ``graph`` must then be the one in the pack, byte for
            byte.

    Returns:
        An ``onnxruntime.InferenceSession``. Its inputs and outputs have the names of the graph.

    Raises:
        UnsupportedError: onnxruntime is not installed or lacks a provider, the pack holds no graph, or torch drew its
            weights.
        CheckpointError: the graph asks for a weight that the pack does not have, holds one itself, reads other files,
            or is refused by the runtime.
        SignatureError: as in load(), or the graph is not part of the signed pack.
        LottapackError: and every error that ``lottapack.numpy.load`` raises.

    Source:
        spec/v1/files.md, section 5.

    Examples:
        >>> graph = lottapack.onnx.export("model.lotta.safetensors", "web", weights="none")
        >>> session = lottapack.onnx.session(graph.with_name("model.lotta.safetensors"))
        >>> (logits,) = session.run(None, {"input": numpy.ones((1, 16), numpy.float32)})
    """
    runtime = require("onnxruntime", "onnx", "a session")
    given = ["CPUExecutionProvider"] if providers is None else providers
    chosen = list(given) if isinstance(given, Iterable) else [given]
    _check_providers(chosen, runtime.get_available_providers())
    with Reading(scaffold, max_bytes, (), require_signature).open(path) as pack:
        if pack.descriptor.rng.id == rng.TORCH_CPU:
            raise UnsupportedError(
                f"{path}: torch drew its weights, and nothing else draws them",
                hint="Export the graph with its weights where torch is: weights='file'.",
            )
        data = _graph(pack, None if graph is None else path_of(graph, "graph"))
        if graph is not None and require_signature is not None:
            _require_signed(pack, data, Path(graph))
        wanted, own = externals(data, pack.path if graph is None else Path(graph))
        _refuse_own(pack, wanted, own)
        for name, one in wanted.items():
            _check(pack, name, one)
        check_memory(str(path), sum(one.nbytes for one in wanted.values()), max_bytes)
        values = [_value(runtime, pack, name, one) for name, one in wanted.items()]
    options = runtime.SessionOptions()
    options.add_external_initializers(list(wanted), values)
    try:
        return runtime.InferenceSession(data, options, providers=chosen)
    except Exception as fault:
        raise CheckpointError(
            f"{path}: ONNX Runtime refuses the graph: {str(fault).strip().splitlines()[0]}",
            hint=_FLOAT32 if any(one.dtype == "bfloat16" for one in wanted.values()) else AGAIN,
        ) from fault


def _check_providers(chosen: list[str], available: list[str]) -> None:
    """Raise UnsupportedError for providers that the runtime lacks: it would print that and run on the CPU."""
    if not chosen or any(provider not in available for provider in chosen):
        raise UnsupportedError(
            f"ONNX Runtime does not have the execution providers {chosen}",
            hint=f"Choose of {', '.join(available)}, or install a build of ONNX Runtime that has it.",
        )


def _graph(pack: PackFile, path: Path | None) -> bytes:
    if path is not None:
        try:
            require_own_file(path.resolve())
            return path.read_bytes()
        except (OSError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            raise CheckpointError(f"{path} cannot be read: {reason}", hint="Name an .onnx file.") from fault
    if GRAPH not in files_of(pack.descriptor):
        raise UnsupportedError(
            f"{pack.path} holds no graph",
            hint="Make a pack that does, where torch is: lottapack.onnx.export(pack, folder, weights='none').",
        )
    return content(pack, GRAPH)


def _require_signed(pack: PackFile, graph: bytes, path: Path) -> None:
    """Refuse a graph beside a signed pack: the signature says nothing about it."""
    if GRAPH not in files_of(pack.descriptor) or content(pack, GRAPH) != graph:
        raise SignatureError(
            f"{path} is not the graph in {pack.path}, so the pack's signature does not cover it",
            hint="Leave out `graph` to run the signed one, or `require_signature` to run yours.",
        )


def _refuse_own(pack: PackFile, wanted: dict[str, External], own: list[str]) -> None:
    """Refuse a graph that would run on weights of its own."""
    held = next((name for name in own if name in pack.descriptor.parameters), None)
    if held is None and (wanted or not pack.descriptor.parameters):
        return
    what = "asks for none of its weights" if held is None else f"holds the weight {shown(held)} itself"
    raise CheckpointError(
        f"{pack.path}: the graph {what}",
        hint=AGAIN,
    )


def _check(pack: PackFile, name: str, wanted: External) -> None:
    """Refuse a graph that asks for a weight which the pack does not have so."""
    entries = pack.descriptor.parameters
    if name not in entries:
        raise CheckpointError(
            f"the graph asks for the weight {shown(name)}, which {pack.path} does not have",
            hint="It is the graph of another model.",
        )
    owner = entries[pack.descriptor.resolve(name)]
    assert not isinstance(owner, Tied)
    same = owner.dtype == wanted.dtype or ("float" in owner.dtype and "float" in wanted.dtype)
    if tuple(owner.shape) != wanted.shape or not same:
        raise CheckpointError(
            f"the graph asks for {shown(name)} as {wanted.dtype} of shape {wanted.shape}; "
            f"the pack has {owner.dtype} of shape {tuple(owner.shape)}",
            hint="It is the graph of another model.",
        )


def _value(runtime: Any, pack: PackFile, name: str, wanted: External) -> Any:
    """The merged weight as the runtime's own value."""
    owner = pack.descriptor.resolve(name)
    entry = pack.descriptor.parameters[owner]
    assert not isinstance(entry, Tied)
    found = arrays.converted(arrays.whole(pack, owner), entry.dtype, wanted.dtype)
    if isinstance(entry, Stored) and found.dtype == bool:
        return runtime.OrtValue.ortvalue_from_numpy(found)
    return runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(found, ELEMENTS[wanted.dtype])
