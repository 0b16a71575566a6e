"""pack_torch_cpu(): checkpoints of models that torch drew itself (spec: torch_cpu)."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from lottapack.arch.drawn import versions
from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError
from lottapack.folders import companions
from lottapack.folders.bits import constant_bits, same_bits
from lottapack.folders.companions import Files
from lottapack.folders.reading import refuse_over_checkpoint
from lottapack.folders.states import LeftOut
from lottapack.format import dtypes
from lottapack.format.descriptor import seed_text
from lottapack.format.recipe import (
    RECIPE_VERSION,
    ParameterRecipe,
    Recipe,
    RecipeRng,
    SeededRecipe,
    StoredRecipe,
    TiedRecipe,
)
from lottapack.nn.scales import check_seed_and_scale
from lottapack.nn.select import Entry
from lottapack.packing.pack_result import PackResult
from lottapack.packing.packer import Packer
from lottapack.packing.plain import Checkpoint, Named, PlainModel, content_of, model_of
from lottapack.packing.storing import storage
from lottapack.peft.reading import is_adapter, read_adapter
from lottapack.progress import Progress
from lottapack.rng import CONSTRUCTOR, TORCH_CPU
from lottapack.weights.constructed import drawn_state


@torch.no_grad()
def pack_torch_cpu(
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    *,
    seed: int,
    architecture: Named = None,
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
    stored_dtype: torch.dtype | str | None = None,
    coding: str | Mapping[str, str] | None = None,
    tolerance: float | None = None,
    allow_nonfinite: bool = False,
    files: Files = True,
    progress: Progress | None = None,
) -> PackResult:
    """Pack a model that was built under ``torch.manual_seed(seed)`` on the CPU, and then partly trained.

    The model is built again under that seed, in this process and with its random state restored. What is equal bit for
    bit needs no place in the pack; the rest is stored. Such a pack opens only where torch draws the same numbers
    (the same version and kind of processor, as a rule) and is refused elsewhere: prefer ``scaffold()``.

    Args:
        checkpoint: the trained module, its state_dict, or a path as in pack(); or the folder of a PEFT adapter
            that was trained on a model as it was built.
        path: the pack.
        seed: what ``torch.manual_seed`` was called with, right before the model was built.
        architecture: a module like the one that was built; or the path of an architecture as JSON, of a transformers
            ``config.json`` or its folder; by default the ``config.json`` in the checkpoint's folder.
        key: as in pack().
        ignore: as in pack().
        allow: as in load(), for an architecture of the family ``python``.
        stored_dtype: as in pack(), for what is stored; what torch drew is compared as it is given.
        coding: as in pack().
        tolerance: as in pack().
        allow_nonfinite: as in pack().
        files: as in pack().
        progress: called with elements generated and elements in all.

    Raises:
        CheckpointError: nothing in the checkpoint is what torch draws here from that seed; tensors are missing or
            left over; what pack() raises for a coding. ArchitectureError, NotAllowedError, OutputError,
            UnsupportedError.

    Warns:
        BackboneChangedWarning: names what is stored, and its bytes.
    """
    leaving = LeftOut(ignore)
    forms = storage(stored_dtype, coding, tolerance)
    with allowing(allow):
        check_seed_and_scale(seed, None)
        refuse_over_checkpoint(Path(path), checkpoint)
        model = model_of(checkpoint, architecture)
        drawn = drawn_state(model.architecture, seed)
        if isinstance(checkpoint, str | PathLike) and is_adapter(Path(checkpoint)):
            with TemporaryDirectory() as scratch:
                base = Path(scratch) / "base"
                plan, _ = _plan(model, seed, drawn, drawn)
                Packer(plan, dict(drawn), constructed=drawn).write(base)
                plan, tensors, known = read_adapter(Path(checkpoint), base)
            return Packer(
                plan,
                tensors,
                progress,
                constructed=drawn,
                storage=forms,
                allow_nonfinite=allow_nonfinite,
                files=companions.gathered(files, checkpoint, None, model.architecture, known),
            ).write(Path(path))
        tensors = model.tensors(content_of(checkpoint, leaving), key, leaving)
        plan, differing = _plan(model, seed, drawn, tensors)
        plan = model.as_live(plan, checkpoint)
        if not any(isinstance(entry, SeededRecipe) for entry in plan.parameters.values()):
            here = versions()
            raise CheckpointError(
                f"nothing matches: none of the {len(differing)} random weights of the checkpoint is what torch draws "
                f"from seed {seed}",
                hint="Check the seed and the architecture; that torch.manual_seed was called right before the model "
                f"was built, on the CPU; and that it was built with torch {here[0]} on a CPU with {here[1]}, as here.",
            )
        part = checkpoint if isinstance(checkpoint, nn.Module) else None
        packer = Packer(
            plan,
            tensors,
            progress,
            stored_instead=differing,
            constructed=drawn,
            storage=forms,
            leaving=leaving,
            allow_nonfinite=allow_nonfinite,
            files=companions.gathered(files, checkpoint, part, model.architecture),
        )
        return packer.write(Path(path))


def _plan(
    model: PlainModel, seed: int, drawn: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[Recipe, dict[str, int]]:
    """The recipe, and the bytes of the random weights that are not what was drawn."""
    parameters: dict[str, ParameterRecipe] = {}
    differing = {}
    for name, entry in model.entries.items():
        if entry.tied:
            parameters[name] = TiedRecipe(to=entry.tied)
            continue
        copies = [copy for copy, other in model.entries.items() if other.tied == name]
        tensor = next((tensors[found] for found in (name, *copies) if found in tensors), None)
        assert tensor is not None  # PlainModel.tensors() saw to it
        parameters[name] = found = _role(entry, drawn[name], tensor)
        random = drawn[name].is_floating_point() and constant_bits(drawn[name]) is None
        if isinstance(found, StoredRecipe) and random and entry.group != "buffer":
            differing[name] = tensor.numel() * tensor.element_size()
    version, capability = versions()
    recipe_rng = RecipeRng(id=TORCH_CPU, seed=seed_text(seed), tables={}, torch=version, capability=capability)
    plan = Recipe(
        lottapack_recipe=RECIPE_VERSION, architecture=model.architecture, rng=recipe_rng, parameters=parameters
    )
    return plan, differing


def _role(entry: Entry, drawn: Tensor, tensor: Tensor) -> ParameterRecipe:
    """Generated where every bit is as drawn; else stored, and trained where it is no buffer and has changed."""
    same = same_bits(drawn.to(tensor.dtype), tensor)
    dtype = dtypes.dtype_name(tensor.dtype)
    if same and dtype in dtypes.GENERATED and constant_bits(tensor) is None and tensor.numel():
        return SeededRecipe(shape=tuple(tensor.shape), dtype=dtype, distribution=CONSTRUCTOR, scale=1.0)
    return StoredRecipe(group=entry.group, trained=not same and entry.group != "buffer")
