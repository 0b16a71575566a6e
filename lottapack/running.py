"""run(): a model at work, straight from its pack: a language model writes tokens, any other computes one output."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError, OutputError, UnsupportedError
from lottapack.exporting.export import write_files
from lottapack.files.output import atomic_file, refuse_over
from lottapack.folders.model_folders import json_bytes, transformers_config
from lottapack.format.descriptor import Adapted, Seeded
from lottapack.format.files import TOKENIZER, files_of
from lottapack.format.packfile import open_pack
from lottapack.loading.load import load
from lottapack.nn.backbones import MATERIALISED, Backbone
from lottapack.products import IN_REGISTERS
from lottapack.registry.local import local
from lottapack.rng import TORCH_CPU

__all__ = ["RunResult", "run"]


@dataclass(frozen=True, slots=True)
class Written:
    """What generate() returns. ``tokens``: the new ones; ``tokens_per_s``: the prompt's pass is in its time."""

    tokens: tuple[int, ...]
    seconds: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """What run() returns.

    ``backbone``: how it was loaded. ``text``: of the new tokens, where there is a tokenizer. ``outputs``: the shapes of
    output tensors by name. ``peak_bytes``: the largest resident size of this process so far, or 0 where unknown.
    """

    path: Path
    backbone: str
    load_seconds: float
    seconds: float
    peak_bytes: int
    tokens: tuple[int, ...] = ()
    tokens_per_s: float = 0.0
    text: str = ""
    outputs: Mapping[str, tuple[int, ...]] | None = None
    output: Path | None = None


def run(
    path: str | PathLike[str],
    *,
    prompt: str | None = None,
    tokens: Sequence[int] = (),
    new_tokens: int = 32,
    tokenizer: str | PathLike[str] | None = None,
    given: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    backbone: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
) -> RunResult:
    """Load a pack and let it work once.

    Args:
        path: the pack, or a reference as in load().
        prompt: a language model goes on from this text. Needs a tokenizer.
        tokens: or from these token ids.
        new_tokens: how many at most; the most likely one is taken each time.
        tokenizer: the folder of a transformers tokenizer; by default that in the pack, or else what lies beside it.
            Nothing is downloaded, and no code of a tokenizer is run.
        given: for any other model, a ``.npy`` file with its input, or ``.safetensors`` with inputs by the names that
            its ``forward`` has.
        output: where its output goes: ``.npy``, or ``.safetensors`` if there are several tensors.
        backbone: as in load(). By default virtual where the pack's tables have a kernel for it, else materialised.
        device: as in load().
        dtype: as in load().
        max_bytes: as in load().
        allow: as in load().

    Raises:
        As load(). CheckpointError: there is no input, or the model takes another. UnsupportedError: the model writes no
        text, or there is no tokenizer. OutputError.
    """
    own = local(path)
    if output is not None:
        refuse_over(Path(output), own, *([] if given is None else [Path(given)]))
    found: Backbone = default_backbone(own) if backbone is None else backbone
    begin = time.perf_counter()
    model = load(own, backbone=found, device=device, dtype=dtype, max_bytes=max_bytes, allow=allow)
    loaded = time.perf_counter() - begin
    kind = found if isinstance(found, str) else "virtual"
    if given is not None:
        with allowing(allow):
            return _compute(model, own, kind, loaded, Path(given), None if output is None else Path(output))
    if output is not None:
        raise CheckpointError("an output is written for a given input alone", hint="Name the input's file.")
    words = None
    if prompt is not None:
        words = _own_tokenizer(own) if tokenizer is None else _tokenizer(Path(tokenizer))
        tokens = words(prompt)["input_ids"]
    if not tokens:
        raise CheckpointError(
            "there is nothing to run the model on",
            hint="Give a language model a prompt or token ids, and any other a file with its input.",
        )
    done = generate(model, tokens, new_tokens)
    text = words.decode(done.tokens) if words is not None else ""
    return RunResult(own, kind, loaded, done.seconds, peak_bytes(), done.tokens, done.tokens_per_s, text)


def default_backbone(path: Path) -> Backbone:
    """Virtual for the weights of a pack whose table has a kernel for it, if any."""
    with open_pack(path) as pack:
        if pack.descriptor.rng.id == TORCH_CPU:
            return MATERIALISED
        parameters = pack.descriptor.parameters.items()
        quick = [n for n, e in parameters if isinstance(e, Seeded | Adapted) and e.distribution in IN_REGISTERS]
    return dict.fromkeys(quick, "virtual") or MATERIALISED


@torch.no_grad()
def generate(model: nn.Module, tokens: Sequence[int], new_tokens: int, *, stop: bool = True) -> Written:
    """Let a transformers language model write, taking the most likely token each time.

    ``stop``: at the end-of-text token of its configuration. Raises UnsupportedError for other models, CheckpointError
    for token ids that it does not have.
    """
    write = getattr(model, "generate", None)
    if write is None or not getattr(model, "can_generate", lambda: False)():
        raise UnsupportedError(
            f"a {type(model).__name__} writes no tokens", hint="Give it a file with its input (lottapack run --input)."
        )
    config: Any = model.config
    size: int = config.vocab_size
    if new_tokens < 1 or not all(0 <= token < size for token in tokens):
        raise CheckpointError(
            f"tokens are numbers from 0 to {size - 1}, and at least one is to be written",
            hint=f"Given: {list(tokens)}.",
        )
    start = torch.tensor([list(tokens)], dtype=torch.int64, device=next(model.parameters()).device)
    least = {} if stop else {"min_new_tokens": new_tokens}
    begin = time.perf_counter()
    found = write(
        start,
        attention_mask=torch.ones_like(start),
        do_sample=False,
        max_new_tokens=new_tokens,
        pad_token_id=0,
        **least,
    )
    written = tuple(found[0, len(tokens) :].tolist())
    seconds = time.perf_counter() - begin
    return Written(written, seconds, len(written) / seconds)


def peak_bytes() -> int:
    """The process's largest resident size so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _tokenizer(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        raise UnsupportedError(
            f"{folder} holds no tokenizer, and the prompt is text",
            hint="Name the folder of the model's tokenizer, or give token ids.",
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, ImportError, KeyError, TypeError) as fault:
        raise UnsupportedError(
            f"the tokenizer of {folder} cannot be opened: {fault}", hint="Give token ids, or another tokenizer."
        ) from fault


def _own_tokenizer(path: Path) -> Any:
    """The tokenizer that a pack carries, or that lies beside it."""
    with open_pack(path) as pack, TemporaryDirectory() as scratch:
        if not files_of(pack.descriptor).keys() & set(TOKENIZER):
            return _tokenizer(path.parent)
        folder = Path(scratch) / "tokenizer"
        write_files(pack, folder)
        config = folder / "config.json"  # says whose tokenizer it is, where its own files do not
        config.write_bytes(json_bytes(transformers_config(pack.descriptor, None)))
        return _tokenizer(folder)


@torch.no_grad()
def _compute(model: nn.Module, own: Path, backbone: str, loaded: float, given: Path, output: Path | None) -> RunResult:
    inputs = _read(given)
    tensors = [*model.parameters(), *model.buffers()]
    place = next((tensor.device for tensor in tensors), torch.device("cpu"))
    inputs = {name: tensor.to(place) for name, tensor in inputs.items()}
    begin = time.perf_counter()
    try:
        found = model(*inputs.values()) if given.suffix == ".npy" else model(**inputs)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as fault:
        shapes = ", ".join(f"{name}: {str(t.dtype)[6:]} {tuple(t.shape)}" for name, t in inputs.items())
        raise CheckpointError(
            f"a {type(model).__name__} does not take {given} ({shapes}): {fault}", hint="Give what its forward() takes."
        ) from fault
    seconds = time.perf_counter() - begin
    named = found if isinstance(found, Mapping) else {"output": found}
    outputs = {name: tensor.cpu() for name, tensor in named.items() if isinstance(tensor, Tensor)}
    if output is not None:
        _write(output, outputs)
    sizes = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    return RunResult(own, backbone, loaded, seconds, peak_bytes(), outputs=sizes, output=output)


def _read(path: Path) -> dict[str, Tensor]:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".npy":
            return {"input": torch.from_numpy(np.load(path, allow_pickle=False))}
        if path.suffix == ".safetensors":
            return dict(load_file(path))
    except (OSError, ValueError, TypeError, EOFError, SafetensorError) as fault:
        reason = (fault.strerror if isinstance(fault, OSError) else "") or fault
        raise CheckpointError(
            f"{path} cannot be read as tensors: {reason}", hint="Save it with numpy.save, or as safetensors."
        ) from fault
    raise CheckpointError(f"{path}: unknown kind of file", hint="Known: .npy, .safetensors")


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    import numpy as np
    from safetensors.torch import save

    if path.suffix == ".safetensors":
        with atomic_file(path) as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    elif path.suffix == ".npy" and len(tensors) == 1:
        tensor = next(iter(tensors.values()))
        with atomic_file(path) as file:
            np.save(file, tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy())
    else:
        raise OutputError(f"{path}: cannot hold {', '.join(tensors)}", hint="Name a .safetensors file.")
