"""init_backbone_(): draw the weights of a plain model from a seed, without changing its layers."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from lottapack import arch, rng
from lottapack.arch.as_built import note_as_built
from lottapack.arch.computed_dtypes import note_built
from lottapack.errors import ScaffoldError
from lottapack.folders import bases
from lottapack.format.recipe import RECIPE_VERSION, ParameterRecipe, Recipe, SeededRecipe, StoredRecipe, TiedRecipe
from lottapack.nn import is_scaffolded
from lottapack.nn.attach import carry
from lottapack.nn.generating import fill_any
from lottapack.nn.planning import raise_all
from lottapack.nn.scales import Rule, Width, check_seed, recipe_rng, require_held, scale_and_dtype, tables_of
from lottapack.nn.select import Entry, PerLayer, entries_of, require_free_name, require_random, require_values
from lottapack.nn.sharing import require_apart
from lottapack.packing.pack import pack


@torch.no_grad()
def init_backbone_(
    model: nn.Module,
    *,
    seed: int,
    distribution: "str | rng.Table | Mapping[str, str | rng.Table]" = "normal16",
    init: str | Rule | None = None,
    scale: float | None = None,
    overwrite_pretrained: bool = False,
) -> nn.Module:
    """Redraw a model's weights from a seed, in place, and return the model. Its layers stay what they are.

    Use this before training with adapters of another library, such as PEFT: the packed adapter then needs only the
    seed, because the weights below it are known. The model's state_dict also carries the recipe, so that its own
    checkpoints can be packed; the pack stores what training changed. The function replaces the current weights.

    It draws the weights of Linear, Conv1d, Conv2d, Embedding and transformers' Conv1D layers and sets their biases
    to 0. Norms, buffers and the parameters of other layers keep their values, and the pack stores them as they are.

    Args:
        model: a ``torch.nn.Sequential`` of listed modules, or a transformers model, on any device.
        seed: 0 to 2**64 - 1.
        distribution: as in scaffold(): a built-in table's id, a Table from ``lottapack.table``, or these by pattern.
        init: as in scaffold(): a rule for the standard deviation, by default 1 / sqrt(d_in).
        scale: as in scaffold(): the factor of the table instead.
        overwrite_pretrained: as in scaffold(): replace the weights of a model from ``from_pretrained`` too.

    Raises:
        ScaffoldError: an argument is wrong; the message names it.
        ArchitectureError: the model cannot be described as data.

    Source:
        spec/v1/recipe.md.

    Examples:
        >>> model = lottapack.init_backbone_(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4)), seed=42)
        >>> lottapack.pack(model, "base.lotta.safetensors").stored_instead
        {}
    """
    if is_scaffolded(model):
        raise ScaffoldError(
            "the model already has a lottapack backbone", hint="Build a new model and call init_backbone_() on that."
        )
    check_seed(seed)
    width = Width(init, scale)
    require_random(model, overwrite_pretrained)
    tables = tables_of(distribution)
    architecture, built = arch.described(model)
    entries = entries_of(model)
    for entry in entries:
        require_held(entry)
    require_apart(entries)
    require_free_name(model, entries)
    require_values(entries)
    recipe = Recipe(
        lottapack_recipe=RECIPE_VERSION,
        architecture=architecture,
        rng=recipe_rng(seed, tables.by_pattern.values()),
        parameters={entry.name: _role(entry, tables, width) for entry in entries},
    )
    if tables.patterns:
        raise_all(tables.patterns.unused(entries))
    sources = recipe.sources()
    for entry in entries:
        if entry.name in sources:
            fill_any(entry.tensor.data, sources[entry.name])
            bias = entry.module._parameters.get("bias")
            if bias is not None:
                bias.zero_()
    note_built(model, built)
    note_as_built(model, built)
    carry(model, recipe)
    stored = [name for name, entry in recipe.parameters.items() if isinstance(entry, StoredRecipe)]
    bases.remember(model, _base(model, stored))
    return model


def _role(entry: Entry, tables: PerLayer[rng.Table], width: Width) -> ParameterRecipe:
    if entry.tied:
        return TiedRecipe(to=entry.tied)
    if not entry.can_generate:
        return StoredRecipe(group=entry.group, trained=False)
    table = tables.of(entry)
    factor, dtype = scale_and_dtype(entry, table, width)
    return SeededRecipe(shape=tuple(entry.tensor.shape), dtype=dtype, distribution=table.id, scale=factor)


def _base(model: nn.Module, stored: list[str]) -> bytes:
    """Return the pack of the model in its present state."""
    state = model.state_dict()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "base"
        pack({name: state[name] for name in ["lottapack_recipe", *stored]}, path)
        return path.read_bytes()
