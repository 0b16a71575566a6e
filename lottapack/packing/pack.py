"""pack(): write a trained model or checkpoint to one file."""

import reprlib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError
from lottapack.files.paths import path_of
from lottapack.flags import require_flags
from lottapack.folders import around, checkpoint, companions, configuration
from lottapack.folders.companions import Files
from lottapack.folders.reading import read_checkpoint, refuse_over_checkpoint
from lottapack.folders.states import LeftOut
from lottapack.format.results import Result, results_of
from lottapack.limits import bytes_of
from lottapack.nn.attach import require_given_values
from lottapack.packing.choosing import write_within
from lottapack.packing.compression import Compression
from lottapack.packing.narrowed import as_held
from lottapack.packing.pack_result import PackCheck, PackResult
from lottapack.packing.packer import Packer
from lottapack.packing.recovered import Recovered
from lottapack.packing.storing import Kept, Storage
from lottapack.peft.reading import is_adapter, read_adapter
from lottapack.progress import Progress, require_functions

__all__ = ["Kept", "PackResult", "pack"]

_EXACT = Compression()


def pack(
    model: nn.Module | Mapping[str, Any] | str | PathLike[str] | Recovered,
    path: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    compression: Compression = _EXACT,
    allow_nonfinite: bool = False,
    files: Files = True,
    results: Iterable[Result | Mapping[str, Any]] = (),
    check: PackCheck | None = None,
    progress: Progress | None = None,
) -> PackResult:
    """Write a scaffolded model as one pack. The same model always gives the same bytes.

    The pack gets the model's present configuration: that of the module, or of ``config.json`` beside the checkpoint.

    Args:
        model: a module from scaffold() or load(), its state_dict, or the path of a checkpoint: safetensors or
            torch.save; a folder as the Hugging Face Trainer writes it; a folder with a PEFT adapter that was trained
            on a model of init_backbone_(). For a checkpoint without a recipe, the result of lottapack.recover.
        path: the pack, usually ``NAME.lotta.safetensors``. An existing file is replaced in one step, at the end.
        base: for a PEFT adapter, the pack of its base, or a folder that contains it; by default the one beside the
            adapter, or the one that its configuration names.
        key: which model to pack if the checkpoint contains several, such as ``{"state_dict": ..., "state_dict_ema":
            ...}``: its key, or the name of the module.
        ignore: names or patterns of what the pack leaves out: tensors beside the scaffolded model, such as
            ``["classifier", "criterion.*"]``, and changes that a pack cannot store, such as ``["norm.eps",
            "fc.forward"]`` (a hook). Others are refused. A trainer's own data (the state of optimizers, schedulers and
            random generators; single numbers) need not be named.
        allow: as in load(), for a PEFT adapter whose base is of the family ``python``. Other models are built without
            weights to compare shapes, if that needs no permission and their library is installed.
        compression: the form in which the pack stores what was trained; by default it stores every bit.
        allow_nonfinite: also pack NaN and infinity in what was trained, and NaN in buffers, which are refused
            otherwise.
        files: True to store the tokenizer, chat template, processor and generation_config that are beside the
            checkpoint, or that a loaded model brought with it; False for none; or the folder that contains them; or
            tokenizers and processors (one, or a list), which must fit into the pack whole. Other files are never
            stored; the result lists them. Spec: files.
        results: what the model reached: scores that the pack carries, and that push() writes into the model card.
        check: called with the path of the new file before it replaces the old one. If it raises, nothing changes; what
            it returns is the result's ``checked``. To compare outputs: ``check=lambda new: lottapack.compare(model,
            new, inputs)``.
        progress: called with the elements generated so far and in all.

    Raises:
        CheckpointError: the configuration was changed after scaffold() and builds different tensors; a live model
            differs from its configuration; it has no recipe, or several; tensors are missing, left over,
            beside the model, or of another shape than in the scaffolded model; a coding is unknown, cannot hold a value
            or exceeds the allowed error. Nothing is written then.
        OutputError: the path cannot be written, or is the checkpoint itself.
        UnsupportedError: an adapter has something that a pack cannot store.

    Warns:
        BackboneChangedWarning: a backbone in the checkpoint differs from what the seed generates, and is stored.
        LeftOutWarning: a tensor is where the constructor sets None, such as a cache, and the pack does not store it;
            or a module around the scaffolded model computes something, which is in no pack; or a folder has a second
            tokenizer, or the modules of sentence-transformers.

    Source:
        spec/v1/container.md and spec/v1/descriptor.md.

    Examples:
        >>> net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> model = lottapack.scaffold(net, seed=42, rank=2)
        >>> result = lottapack.pack(model, "new.lotta.safetensors", compression=lottapack.Compression(max_error=0.01))
        >>> result.size == result.path.stat().st_size
        True
        >>> lottapack.pack("checkpoint.pt", "model.lotta.safetensors").left_out
        ()
    """
    leaving, scores, target = LeftOut(ignore), results_of(results), path_of(path, "path")
    _require_compression(compression)
    require_functions(progress=progress, check=check)
    require_flags(allow_nonfinite=allow_nonfinite)
    with allowing(allow), torch.no_grad():
        if isinstance(model, Recovered):
            _require_read(base=base, key=key, ignore=ignore, allow=allow)
            content = model
            refuse_over_checkpoint(target, content.source)
        else:
            _require_checkpoint(model)
            refuse_over_checkpoint(target, model)
            content = _read(model, base, key, leaving)
        beside = companions.gathered(files, content.source, content.part, content.recipe.architecture, content.known)

        def packer(way: Storage) -> Packer:
            return Packer(
                content.recipe,
                content.tensors,
                progress,
                stored_instead=content.differing,
                constructed=content.drawn,
                storage=way,
                leaving=deepcopy(content.leaving),
                allow_nonfinite=allow_nonfinite,
                check=check,
                files=beside,
                results=scores,
                layers=content.layers,
            )

        forms = Storage.of(compression)
        if compression.max_size is not None:
            return write_within(packer, forms, bytes_of(compression.max_size, "max_size"), target)
        return packer(forms).write(target)


def _require_read(**options: object) -> None:
    """Raise CheckpointError for options of reading a checkpoint that lottapack.recover already read."""
    for name, value in options.items():
        if value:
            raise CheckpointError(
                f"`{name}` only applies to reading a checkpoint, but lottapack.recover already read this one",
                hint=f"Pass `{name}` to the function of lottapack.recover.",
            )


def _require_compression(compression: object) -> None:
    """Raise CheckpointError for an argument of another type."""
    if not isinstance(compression, Compression):
        raise CheckpointError(
            f"compression={reprlib.repr(compression)} is not a Compression", hint="Pass lottapack.Compression(...)."
        )


def _require_checkpoint(model: object) -> None:
    """Raise CheckpointError for an argument of another type."""
    if not isinstance(model, nn.Module | Mapping | str | PathLike):
        raise CheckpointError(
            f"pack() takes a model, its state_dict or the path of a checkpoint, not {reprlib.repr(model)}",
            hint="Pass the model from scaffold(), model.state_dict(), or a path.",
        )
    if isinstance(model, str | PathLike):
        path_of(model, "model")


def _read(
    model: nn.Module | Mapping[str, Any] | str | PathLike[str],
    base: str | PathLike[str] | None,
    key: str | None,
    leaving: LeftOut,
) -> Recovered:
    """Read a checkpoint with a recipe, or a PEFT adapter."""
    adapter = isinstance(model, str | PathLike) and is_adapter(Path(model))
    if base is not None and not adapter:
        raise CheckpointError("`base` is only valid for PEFT adapters", hint="Leave out `base`.")
    if key is not None and adapter:
        raise CheckpointError(
            "`key` is only valid for a checkpoint of several models, not for a PEFT adapter", hint="Leave out `key`."
        )
    part, known = None, dict[str, bytes]()
    if isinstance(model, nn.Module):
        require_given_values(model)
        recipe, tensors = checkpoint.of_model(model, key, leaving)
        part = configuration.scaffolded_part(recipe, model, key)
        if part is not None:
            around.require_no_sequence(model, part, leaving)
            around.warn_of_forwards(model, part)
    elif isinstance(model, Mapping):
        recipe, tensors = checkpoint.split(model, key, leaving)
    elif adapter:
        recipe, tensors, known = read_adapter(Path(model), None if base is None else Path(base))
    else:
        recipe, tensors = checkpoint.split(read_checkpoint(Path(model), leaving), key, leaving)
    if not adapter:
        beside = Path(model) if isinstance(model, str | PathLike) else None
        recipe = configuration.of_recipe(recipe, tensors, leaving, beside)
    tensors = checkpoint.fitted(recipe, tensors)
    if not adapter:
        recipe, tensors = as_held(recipe, tensors)
    return Recovered(recipe, tensors, model, part, known, leaving)
