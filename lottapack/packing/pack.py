"""pack(): from a trained model or checkpoint to one file."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError
from lottapack.folders import checkpoint, companions, configuration
from lottapack.folders.companions import Files
from lottapack.folders.reading import read_checkpoint, refuse_over_checkpoint
from lottapack.folders.states import LeftOut
from lottapack.packing.choosing import check_size, write_within
from lottapack.packing.narrowed import as_held
from lottapack.packing.pack_result import PackCheck, PackResult
from lottapack.packing.packer import Packer
from lottapack.packing.storing import Kept, Storage, storage
from lottapack.peft.reading import is_adapter, read_adapter
from lottapack.progress import Progress

__all__ = ["Kept", "PackResult", "pack"]


def pack(
    model: nn.Module | Mapping[str, Any] | str | PathLike[str],
    path: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    stored_dtype: torch.dtype | str | None = None,
    coding: str | Mapping[str, str] | None = None,
    tolerance: float | None = None,
    max_error: float | None = None,
    max_size: int | None = None,
    allow_nonfinite: bool = False,
    files: Files = True,
    check: PackCheck | None = None,
    progress: Progress | None = None,
) -> PackResult:
    """Write a scaffolded model as one pack. The same model gives the same bytes.

    The pack's configuration is that of this moment: the model's own, or ``config.json`` beside the checkpoint.

    Args:
        model: a module from scaffold() or load(), its state_dict, or the path of a checkpoint: safetensors or
            torch.save; a folder as the Hugging Face Trainer writes it; a folder with a PEFT adapter that was trained
            on a model of init_backbone_().
        path: the pack, usually ``NAME.lotta.safetensors``. An existing file is replaced in one step, at the end.
        base: for a PEFT adapter, the pack of its base, or a folder that holds it; by default what lies beside the
            adapter or what its configuration names.
        key: which model, where the checkpoint holds several, such as ``{"state_dict": ..., "state_dict_ema": ...}``:
            its key, or the name of the module.
        ignore: names or patterns of tensors beside the scaffolded model, such as ``["classifier", "criterion.*"]``,
            that the pack leaves out. Without it they are refused. What a trainer keeps for itself (the state of
            optimizers, schedulers, random generators; single numbers) needs no mention.
        allow: as in load(), for a PEFT adapter whose base is of the family ``python``. Other models are built without
            weights to compare shapes, where that needs no permission and their library is installed.
        stored_dtype: keep what was trained in float32 (adapters too) as ``torch.float16`` or ``torch.bfloat16``. A
            parameter keeps its dtype, and gets it back when it is loaded. Buffers and betas stay as they are.
        coding: the form of what was trained. ``"trellis8@0.01"`` quantises with that root mean square error, as part of
            each tensor's own, for adapters, embeddings, heads and the rest; ``"int8-block64"`` and
            ``"normal4-block64"`` are for the embeddings; ``"planes-zlib"`` loses nothing and is for all. Or by group:
            ``{"adapters": "trellis8@0.02", "heads": "int8-block64"}``; groups are those of scaffold(), ``adapters``,
            ``buffers`` and ``*``. What does not become smaller stays as it is. Spec: codings.
        tolerance: the largest error that an element of what is stored may have from both, as part of the root mean
            square of its tensor. The result says how large it is.
        max_error: the root mean square error that a tensor may have, as part of its own: of ``trellis8`` without one of
            its own, which it asks for if ``coding`` is left out.
        max_size: the bytes that the pack may have: ``trellis8`` gets the least error, the same for all, that it allows.
        allow_nonfinite: pack NaN and infinity in what was trained, and NaN in buffers. They are refused otherwise.
        files: whether the pack carries the tokenizer, chat template, processor and generation_config that lie beside
            the checkpoint, or that a loaded model brought with it; or the folder that holds them; or tokenizers and
            processors (one, or a list). Other files are never taken: the result lists them. Spec: files.
        check: called with the path of the new file before that takes its place; what it raises leaves everything as it
            was, and what it gives back is the result's ``checked``. To compare outputs:
            ``check=lambda new: lottapack.compare(model, new, inputs)``.
        progress: called with elements generated and elements in all.

    Raises:
        CheckpointError: a configuration that was changed after scaffold() and builds other tensors, by key; a live
            model that its configuration does not build; no recipe, or several; tensors missing, left over, beside the
            model, or of another shape than in the scaffolded model; a coding that is unknown, that cannot hold a value,
            or whose error is over the tolerance. Nothing is written then. OutputError: the path cannot be written, or
            is the checkpoint's own.
            UnsupportedError: an adapter has what a pack cannot carry.

    Warns:
        BackboneChangedWarning: a backbone in the checkpoint differs from what the seed generates, and is stored.
    """
    check_size(max_size)
    if max_size is not None and max_error is not None:
        raise CheckpointError("max_size finds the error itself", hint="Leave max_error (--max-error) out.")
    forms = storage(stored_dtype, coding, tolerance, 0.01 if max_size is not None else max_error)
    refuse_over_checkpoint(Path(path), model)
    leaving = LeftOut(ignore)
    adapter = isinstance(model, str | PathLike) and is_adapter(Path(model))
    with allowing(allow), torch.no_grad():
        part, known = None, dict[str, bytes]()
        if isinstance(model, nn.Module):
            plan, tensors = checkpoint.of_model(model, key, leaving)
            part = configuration.scaffolded_part(plan, model, key)
            plan = configuration.of_module(plan, part)
        elif isinstance(model, Mapping):
            plan, tensors = checkpoint.split(model, key, leaving)
        elif adapter:
            plan, tensors, known = read_adapter(Path(model), None if base is None else Path(base))
        else:
            plan, tensors = checkpoint.split(read_checkpoint(Path(model), leaving), key, leaving)
            plan = configuration.of_checkpoint(plan, Path(model))
        if base is not None and not adapter:
            raise CheckpointError(
                "base goes with a PEFT adapter, and the checkpoint is none", hint="Leave base (--base) out."
            )
        if key is not None and adapter:
            raise CheckpointError(
                "key goes with a checkpoint of several models, and this is a PEFT adapter", hint="Leave key out."
            )
        tensors = checkpoint.fitted(plan, tensors)
        if not adapter:
            plan, tensors = as_held(plan, tensors)
        beside = companions.gathered(files, model, part, plan.architecture, known)

        def packer(way: Storage) -> Packer:
            return Packer(
                plan,
                tensors,
                progress,
                storage=way,
                leaving=deepcopy(leaving),
                allow_nonfinite=allow_nonfinite,
                check=check,
                files=beside,
            )

        if max_size is not None:
            return write_within(packer, forms, max_size, Path(path))
        return packer(forms).write(Path(path))
