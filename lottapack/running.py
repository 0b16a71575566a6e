"""run(): load a pack and use its model once. A language model generates tokens, other models compute one output."""

import logging
import math
import reprlib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lottapack.arch.trust import allowing
from lottapack.display import Displayed, Facts
from lottapack.errors import CheckpointError, OutputError, UnsupportedError
from lottapack.files.output import atomic_file, refuse_over
from lottapack.files.paths import path_of
from lottapack.folders.tokenizer import own_tokenizer, tokenizer_in, tokens_of
from lottapack.format.descriptor import Adapted, Seeded
from lottapack.format.packfile import open_pack
from lottapack.inputs import arguments, outputs, real
from lottapack.loading.load import load
from lottapack.nn.backbones import MATERIALISED, Backbone
from lottapack.products import IN_REGISTERS
from lottapack.registry.local import local
from lottapack.rng import TORCH_CPU

_log = logging.getLogger(__name__)

__all__ = ["RunResult", "run"]

SMALL = 64
"""The most numbers of an output that a result holds as values."""


@dataclass(frozen=True, slots=True)
class Written:
    """What generate() returns.

    ``tokens``: the new tokens. ``tokens_per_s`` counts the time of the prompt's pass too.
    """

    tokens: tuple[int, ...]
    seconds: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True, repr=False)
class RunResult(Displayed):
    """What run() returns.

    ``backbone``: how it was loaded. ``text``: the decoded new tokens, if a tokenizer was used. ``outputs``: the shapes
    of output tensors by name. ``values``: the numbers of outputs that have at most 64. ``prompt``: the text or the
    token ids that the model continued. ``peak_bytes``: the largest resident size of this process so far, 0 if unknown.
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
    prompt: str = ""
    values: Mapping[str, Any] | None = None

    def _facts(self) -> Facts:
        shapes = ", ".join(f"{name} {shape}" for name, shape in (self.outputs or {}).items())
        line = self.text or shapes or f"{len(self.tokens)} tokens"
        more: dict[str, object] = {
            "prompt": self.prompt,
            "tokens": " ".join(map(str, self.tokens)),
            "values": self.values,
            "written to": self.output,
            "backbone": self.backbone,
            "seconds": f"{self.seconds:.3g} (loading {self.load_seconds:.3g})",
        }
        return Facts(self.path, line, {label: value for label, value in more.items() if value})


def run(
    path: str | PathLike[str],
    *,
    prompt: str | None = None,
    tokens: Sequence[int] = (),
    new_tokens: int = 32,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    tokenizer: str | PathLike[str] | None = None,
    inputs: Any = None,
    output: str | PathLike[str] | None = None,
    backbone: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
) -> RunResult:
    """Load a pack and run its model once.

    Args:
        path: the pack, or a reference as in load().
        prompt: the text that a language model continues. Needs a tokenizer.
        tokens: the token ids to continue, instead of a prompt.
        new_tokens: the most tokens to generate.
        temperature: 0 takes the most likely token each time; above 0 tokens are sampled, and a lower temperature
            prefers the likelier ones.
        top_p: sample from the likeliest tokens that together have this probability, above 0 and at most 1.
        seed: the seed of the sampling, from 0 to 2**64 - 1. The same seed gives the same tokens on the same device. By
            default torch's global random state is used.
        tokenizer: the folder of a transformers tokenizer; for a prompt by default the one in the pack, or else the one
            beside it. Nothing is downloaded, and no tokenizer code is executed.
        inputs: the input of any other model, as in compare(): tensors, arrays, or a file with them.
        output: the file to write the output to: ``.npy``, or ``.safetensors`` for several tensors.
        backbone: as in load(). By default virtual where the pack's tables have a kernel for it, else materialised.
        device: as in load().
        dtype: as in load().
        max_bytes: as in load().
        allow: as in load().

    Raises:
        CheckpointError: the input is missing, or the model takes another.
        UnsupportedError: the model does not generate text, or its tokenizer is missing.
        OutputError: the output cannot be written.
        LottapackError: and every error that load() raises.

    Source:
        spec/v1/architectures.md.

    Examples:
        >>> numpy.save("input.npy", numpy.ones((1, 16), numpy.float32))
        >>> lottapack.run("model.lotta.safetensors", inputs="input.npy").outputs
        {'output': (1, 4)}
    """
    _check_input(prompt, tokens, inputs)
    if inputs is not None and (temperature, top_p, seed, tokenizer) != (0.0, 1.0, None, None):
        raise CheckpointError(
            "`temperature`, `top_p`, `seed` and `tokenizer` only apply to language models, but `inputs` is the input "
            "of another model",
            hint="Pass either `inputs`, or `prompt` and how to sample.",
        )
    if output is not None and inputs is None:
        raise CheckpointError(
            f"output={str(output)!r} is only written for a model with `inputs`",
            hint="Pass `inputs`, or leave out `output`.",
        )
    pack_path = local(path)
    target = None if output is None else path_of(output, "output")
    source = [path_of(inputs, "inputs")] if isinstance(inputs, str | PathLike) else []
    if target is not None:
        refuse_over(target, pack_path, *source)
    given = None if inputs is None else arguments(inputs)
    chosen: Backbone = default_backbone(pack_path) if backbone is None else backbone
    if backbone is None:
        _log.info("backbone %s, as the pack's tables allow", chosen if isinstance(chosen, str) else "virtual")
    begin = time.perf_counter()
    model = load(pack_path, backbone=chosen, device=device, dtype=dtype, max_bytes=max_bytes, allow=allow)
    loaded = time.perf_counter() - begin
    kind = chosen if isinstance(chosen, str) else "virtual"
    if given is not None:
        with allowing(allow):
            return _compute(model, pack_path, kind, loaded, given, *source, output=target)
    words = None
    if prompt is not None or tokenizer is not None:
        words = own_tokenizer(pack_path) if tokenizer is None else tokenizer_in(Path(tokenizer))
    if words is not None and prompt is not None:
        tokens = tokens_of(words, prompt)
        if not tokens:
            raise CheckpointError(f"the prompt {prompt!r} does not have tokens", hint="Pass a longer `prompt`.")
    done = generate(model, tokens, new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    text = words.decode(done.tokens) if words is not None else ""
    begun = " ".join(map(str, tokens)) if prompt is None else prompt
    return RunResult(
        pack_path, kind, loaded, done.seconds, peak_bytes(), done.tokens, done.tokens_per_s, text, prompt=begun
    )


def _check_input(prompt: str | None, tokens: Sequence[int], inputs: object) -> None:
    """Raise CheckpointError unless there is one input."""
    if not (hasattr(tokens, "__len__") and all(isinstance(token, Integral) for token in tokens)):
        raise CheckpointError(
            f"tokens={reprlib.repr(tokens)} is not a list of numbers", hint="Pass a list of integers."
        )
    if not isinstance(prompt, str | None):
        raise CheckpointError(f"prompt={reprlib.repr(prompt)} is not text", hint="Pass a string.")
    passed = [f"`{name}`" for name, one in (("prompt", prompt), ("inputs", inputs)) if one is not None]
    passed += ["`tokens`"] if len(tokens) else []
    if len(passed) != 1:
        said = " and ".join(passed) + " were passed" if passed else "a prompt, tokens or other inputs"
        raise CheckpointError(
            f"run() needs one input: {said}",
            hint="Pass `prompt` or `tokens` for a language model, or `inputs` for any other.",
        )


def default_backbone(path: Path) -> Backbone:
    """Return "virtual" for the weights whose table has a kernel for it; "materialised" if it has none."""
    with open_pack(path) as pack:
        if pack.descriptor.rng.id == TORCH_CPU:
            return MATERIALISED
        parameters = pack.descriptor.parameters.items()
        quick = [n for n, e in parameters if isinstance(e, Seeded | Adapted) and e.distribution in IN_REGISTERS]
    return dict.fromkeys(quick, "virtual") or MATERIALISED


@torch.no_grad()
def generate(
    model: nn.Module,
    tokens: Sequence[int],
    new_tokens: int,
    *,
    stop: bool = True,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> Written:
    """Generate tokens with a transformers language model; ``temperature``, ``top_p`` and ``seed`` are as in run().

    ``stop``: stop at the end-of-text token of the model's configuration.

    Raises UnsupportedError for models that do not generate, CheckpointError for token ids outside the vocabulary.
    """
    write = getattr(model, "generate", None)
    if write is None or not getattr(model, "can_generate", lambda: False)():
        raise UnsupportedError(f"a {type(model).__name__} cannot generate tokens", hint="Pass its input as `inputs`.")
    config: Any = model.config
    size: int = config.vocab_size
    if new_tokens < 1 or not all(0 <= token < size for token in tokens):
        raise CheckpointError(
            f"cannot continue the tokens {list(tokens)} with {new_tokens} more: token ids go from 0 to {size - 1}, and "
            "new_tokens must be at least 1",
            hint="Use the tokenizer of this model, and ask for at least one token.",
        )
    drawing = _drawing(temperature, top_p, seed)
    start = torch.tensor([list(tokens)], dtype=torch.int64, device=next(model.parameters()).device)
    least = {} if stop else {"min_new_tokens": new_tokens}
    begin = time.perf_counter()
    with torch.random.fork_rng([start.device] if start.is_cuda else [], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        generated = write(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=new_tokens,
            pad_token_id=0,
            **drawing,
            **least,
        )
    written = tuple(generated[0, len(tokens) :].tolist())
    seconds = time.perf_counter() - begin
    return Written(written, seconds, len(written) / seconds)


def _drawing(temperature: float, top_p: float, seed: int | None) -> dict[str, Any]:
    """Return the sampling arguments of transformers' generate()."""
    if not (0 <= temperature < math.inf and 0 < top_p <= 1 and (seed is None or 0 <= seed < 2**64)):
        raise CheckpointError(
            f"cannot sample with `temperature={temperature}`, `top_p={top_p}`, `seed={seed}`",
            hint="`temperature` must be 0 or more, `top_p` above 0 and at most 1, `seed` from 0 to 2**64 - 1.",
        )
    if temperature == 0:
        if top_p != 1 or seed is not None:
            raise CheckpointError(
                "`top_p` and `seed` only apply to sampling, and `temperature` is 0",
                hint="Pass a `temperature` above 0 too, such as 0.8.",
            )
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}


def peak_bytes() -> int:
    """Return the process's largest resident size so far in bytes, or 0 where the system does not report it."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@torch.no_grad()
def _compute(
    model: nn.Module,
    own: Path,
    backbone: str,
    loaded: float,
    given: tuple[tuple[Any, ...], dict[str, Any]],
    source: Path | None = None,
    *,
    output: Path | None,
) -> RunResult:
    own_tensors = chain(model.parameters(), model.buffers())
    device = next((tensor.device for tensor in own_tensors), torch.device("cpu"))
    positional = tuple(_moved(value, device) for value in given[0])
    named = {name: _moved(value, device) for name, value in given[1].items()}
    begin = time.perf_counter()
    try:
        result = model(*positional, **named)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as fault:
        all_named = {**{f"argument {number}": value for number, value in enumerate(positional)}, **named}
        shapes = ", ".join(
            f"{name}: {str(t.dtype)[6:]} {tuple(t.shape)}" for name, t in all_named.items() if isinstance(t, Tensor)
        )
        where = "" if source is None else f" in {source}"
        raise CheckpointError(
            f"a {type(model).__name__} cannot take the input{where} ({shapes}): {fault}",
            hint="Pass the arguments of its forward(), in the shapes and dtypes that it takes.",
        ) from fault
    seconds = time.perf_counter() - begin
    tensors = {name: tensor.cpu() for name, tensor in outputs(result)}
    if not tensors:
        raise CheckpointError(
            f"a {type(model).__name__} returned a {type(result).__name__} without tensors",
            hint="Load the model with `lottapack.load()`, and call what of it returns tensors.",
        )
    if output is not None:
        _write(output, tensors)
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    small = {name: real(tensor).tolist() for name, tensor in tensors.items() if tensor.numel() <= SMALL}
    return RunResult(own, backbone, loaded, seconds, peak_bytes(), outputs=sizes, output=output, values=small)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    import numpy as np
    from safetensors.torch import save

    if path.suffix == ".safetensors":
        with atomic_file(path) as file:
            # Copies, because outputs may share memory, which safetensors refuses.
            file.write(save({n: tensor.clone(memory_format=torch.contiguous_format) for n, tensor in tensors.items()}))
    elif path.suffix == ".npy" and len(tensors) == 1:
        tensor = next(iter(tensors.values()))
        with atomic_file(path) as file:
            np.save(file, tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy())
    else:
        raise OutputError(
            f"cannot write {', '.join(tensors)} to {path}: its name must end in .safetensors"
            f"{' or .npy' if len(tensors) == 1 else ''}",
            hint="Pass another name as `output`.",
        )
