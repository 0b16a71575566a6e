"""torch_cpu(): recover checkpoints of models that torch drew itself (spec: torch_cpu)."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from lottapack.arch.drawn import versions
from lottapack.arch.trust import allowing
from lottapack.errors import CheckpointError
from lottapack.folders.bits import constant_bits, same_bits
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
from lottapack.nn.scales import check_seed
from lottapack.nn.select import Entry
from lottapack.packing.packer import Packer
from lottapack.packing.recovered import Recovered
from lottapack.peft.reading import is_adapter, read_adapter
from lottapack.recover.plain import Checkpoint, Named, PlainModel, content_of, model_of
from lottapack.rng import CONSTRUCTOR, TORCH_CPU
from lottapack.weights.constructed import drawn_state


@torch.no_grad()
def torch_cpu(
    checkpoint: Checkpoint,
    *,
    seed: int,
    architecture: Named = None,
    key: str | None = None,
    ignore: str | Iterable[str] = (),
    allow: str | Iterable[str] = (),
) -> Recovered:
    """Recover a model that was built under ``torch.manual_seed(seed)`` on the CPU, and then partly trained.

    The model is built again under that seed, in this process, whose random state is restored. Weights that are equal
    bit for bit are not stored in the pack; all others are. Such a pack only loads where torch draws the same numbers
    (usually the same version and kind of processor) and is refused elsewhere, so prefer ``scaffold()``.

    Args:
        checkpoint: the trained module, its state_dict, or a path as in pack(); or the folder of a PEFT adapter
            that was trained on the model as it was built.
        seed: the argument of ``torch.manual_seed``, called right before the model was built.
        architecture: a module like the one that was built; or the path of an architecture as JSON, of a transformers
            ``config.json`` or of its folder; by default the module's own, or the ``config.json`` in the checkpoint's
            folder.
        key: as in pack().
        ignore: as in pack().
        allow: as in load(), for an architecture of the family ``python``.

    Returns:
        The input of pack(), which warns with BackboneChangedWarning of random weights that differ from what torch
        draws.

    Raises:
        CheckpointError: nothing in the checkpoint equals what torch draws here from that seed; tensors are missing or
            left over.
        ScaffoldError: the seed is out of range.
        ArchitectureError: the architecture is unknown or cannot be built.
        NotAllowedError: the architecture needs a package that ``allow`` does not name.

    Source:
        spec/v1/torch_cpu.md.

    Examples:
        >>> _ = torch.manual_seed(3)
        >>> drawn = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
        >>> lottapack.recover.torch_cpu(drawn, seed=3)
        <Recovered Sequential: 4 seeded>
    """
    leaving = LeftOut(ignore)
    with allowing(allow):
        check_seed(seed)
        model = model_of(checkpoint, architecture)
        drawn = drawn_state(model.architecture, seed)
        if isinstance(checkpoint, str | PathLike) and is_adapter(Path(checkpoint)):
            with TemporaryDirectory() as scratch:
                base = Path(scratch) / "base"
                plan, _ = _plan(model, seed, drawn, drawn)
                Packer(plan, dict(drawn), constructed=drawn).write(base)
                plan, tensors, known = read_adapter(Path(checkpoint), base)
            return Recovered(plan, tensors, checkpoint, known=known, drawn=drawn)
        tensors = model.tensors(content_of(checkpoint, leaving), key, leaving)
        plan, differing = _plan(model, seed, drawn, tensors)
        plan = model.as_live(plan, checkpoint)
        if not any(isinstance(entry, SeededRecipe) for entry in plan.parameters.values()):
            here = versions()
            raise CheckpointError(
                f"nothing matches: none of the {len(differing)} random weights of the checkpoint equals what "
                f"torch draws "
                f"from seed {seed}",
                hint="Check the seed and the architecture; that torch.manual_seed was called right before the model "
                f"was built, on the CPU; and that it was built with torch {here[0]} on a CPU with {here[1]}, as here.",
            )
        part = checkpoint if isinstance(checkpoint, nn.Module) else None
        return Recovered(plan, tensors, checkpoint, part, leaving=leaving, drawn=drawn, differing=differing)


def _plan(
    model: PlainModel, seed: int, drawn: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[Recipe, dict[str, int]]:
    """Return the recipe, and the bytes of the random weights that differ from what was drawn."""
    parameters: dict[str, ParameterRecipe] = {}
    differing = {}
    for name, entry in model.entries.items():
        if entry.tied:
            parameters[name] = TiedRecipe(to=entry.tied)
            continue
        copies = [copy for copy, other in model.entries.items() if other.tied == name]
        tensor = next((tensors[found] for found in (name, *copies) if found in tensors), None)
        assert tensor is not None  # PlainModel.tensors() ensures this
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
    """Return seeded if every bit is as drawn; else stored, and trained unless it is a buffer or unchanged."""
    same = same_bits(drawn.to(tensor.dtype), tensor)
    dtype = dtypes.dtype_name(tensor.dtype)
    if same and dtype in dtypes.GENERATED and constant_bits(tensor) is None and tensor.numel():
        return SeededRecipe(shape=tuple(tensor.shape), dtype=dtype, distribution=CONSTRUCTOR, scale=1.0)
    return StoredRecipe(group=entry.group, trained=not same and entry.group != "buffer")
