"""scaffold(): a plain model becomes a random, frozen backbone with trained adapters."""

import math
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Final, Literal

import msgspec
import torch
from torch import nn

from lottapack import arch, rng
from lottapack.arch.as_built import note_as_built
from lottapack.arch.computed_dtypes import note_built
from lottapack.errors import ScaffoldError, UnusedOptionWarning
from lottapack.flags import require_flags
from lottapack.format import dtypes
from lottapack.format.descriptor import FACTORS, LAMBDAS, SCALINGS
from lottapack.format.factors import adapter_shapes
from lottapack.format.names import ADAPTER_PARTS
from lottapack.format.recipe import (
    RECIPE_VERSION,
    AdaptedRecipe,
    ParameterRecipe,
    Recipe,
    SeededPart,
    StoredRecipe,
    name_clashes,
)
from lottapack.limits import check_memory, require_bytes
from lottapack.nn.any_module import adapter_of
from lottapack.nn.attach import attach, is_scaffolded, without_dropout
from lottapack.nn.awaiting import await_values
from lottapack.nn.backbones import (
    MATERIALISED,
    Backbone,
    choose,
    generated_by,
    needed_bytes,
    require_forms,
    virtualise,
    with_forms,
)
from lottapack.nn.in_full import tell_of_what_is_in_full
from lottapack.nn.local import exclude_from_ddp
from lottapack.nn.planning import Planner
from lottapack.nn.projections import FIRST_LAMBDA_D, projection, shared_by_layers
from lottapack.nn.regenerating import generate_
from lottapack.nn.scales import (
    Rule,
    Width,
    check_seed,
    default_scale,
    factor_bound,
    recipe_rng,
    tables_of,
)
from lottapack.nn.select import Entry, entries_of, require_free_name, require_named, require_random, without_memory
from lottapack.nn.sharing import require_apart

_SCALES: Final[dict[str | float, tuple[str, ...]]] = {"input": ("scale_in",), "output": ("scale_out",)}
"""The vector of an adapter by the value of ``beta``."""

_FIRST_VALUES: Final = {"beta": 1.0, "lambda_b": 0.0, "lambda_d": FIRST_LAMBDA_D, "scale_in": 1.0, "scale_out": 1.0}


def scaffold(
    model: nn.Module,
    *,
    seed: int,
    scaffolds: Mapping[str, int] | None = None,
    rank: int | Mapping[str, int] = 8,
    alpha: float | None = None,
    scaling: Literal["lora", "rslora"] = "lora",
    targets: str | Iterable[str] | None = None,
    train: str | Iterable[str] | None = None,
    distribution: "str | rng.Table | Mapping[str, str | rng.Table]" = "normal16",
    init: str | Rule | None = None,
    scale: float | None = None,
    beta: Literal["learned", "input", "output"] | float = "learned",
    frozen_factor: Literal["lora_A", "lora_B"] | None = None,
    shared_factor: str | Mapping[str, str] | None = None,
    vera: bool = False,
    dropout: float = 0.0,
    persistent: bool = False,
    backbone: Backbone = MATERIALISED,
    max_bytes: int | None = None,
    overwrite_pretrained: bool = False,
) -> nn.Module:
    """Redraw a model from a seed, wrap its layers with adapters, freeze the rest. Changes the model and returns it.

    This is for models that are trained from random weights: it replaces those that the model has.

    Args:
        model: a ``torch.nn.Sequential`` of listed modules, or a transformers model, on any device. On the meta device
            it gets its roles and adapters and no values: to plan a model that is larger than memory, or to load a
            checkpoint of such a model's training into. pack() refuses it until it has values.
        seed: 0 to 2**64 - 1. All that lottapack draws follows from it, adapters too.
        scaffolds: more seeds by name, such as ``{"task-b": 43}``, for a model with several backbones: see switch(). It
            begins on that of ``seed``, which is called ``default``.
        rank: of the adapters, 0 for none but ``beta``; or by pattern, first match first, as
            ``{"q_proj": 16, "*.mlp.*": 4, "*": 8}``. A layer with fewer inputs or outputs than a rank that is one
            number is trained in full, which is smaller; named in targets, it gets an adapter of the largest rank that
            it can have.
        alpha: of the adapters; by default the rank, so that the scaling is 1.
        scaling: ``"lora"`` (alpha / rank) or ``"rslora"`` (alpha / sqrt(rank)).
        targets: names or patterns of what gets an adapter: layers and experts, or single parameters of two or more
            dimensions, such as ``"*.in_proj_weight"``. Default: each linear, convolutional and recurrent layer,
            subclasses included, attention, and experts, as far as they are not trained in full; layers that share a
            weight are left out, and embeddings and other parameters have to be named.
        train: what is trained in full: names or patterns of modules or parameters, and the words ``heads``,
            ``norms``, ``biases``, ``embeddings``, ``rest`` (what lottapack cannot generate). Default: all five words.
            Whatever is neither a target nor trained stays frozen: weights come from the seed, whatever module holds
            them; norms, biases, vectors and what repeats from row to row keep their values.
        distribution: a built-in table's id, or a Table from ``lottapack.table``; or these by pattern, as the rank.
        init: the standard deviation of the weights. The name of a rule: ``"lecun"``, 1 / sqrt(d_in) (for an embedding
            1 / sqrt(embedding_dim)), the default; ``"kaiming"``, sqrt(2 / d_in); ``"xavier"``,
            sqrt(2 / (d_in + d_out)); ``"spectral_radius"``, 0.95 / sqrt(min(d_in, d_out)). Or a rule of your own, a
            function of (d_out, d_in).
        scale: the factor of the table instead, above 0.
        beta: the factor of the random weights: ``"learned"``, one number for each weight, which starts at 1;
            ``"input"`` or ``"output"``, a number for each input or output of a weight; or 1.0 (fixed). A learned beta
            per input or output with ``rank=0`` is the whole adapter: a diagonal one.
        frozen_factor: ``"lora_A"`` keeps the first factor of each adapter random and frozen, so that it comes from the
            seed and takes no space in a pack (LoRA-FA, arXiv 2308.03303); ``"lora_B"`` the second, where the first
            starts at zero.
        shared_factor: ``"lora_A"`` or ``"lora_B"``: the matrices of a weight that has several, such as experts, share
            this factor; each has the other factor of its own. By default each has both. Or by pattern, such as
            ``{"gate_up_proj": "lora_A", "down_proj": "lora_B"}``; weights that no pattern names keep both.
        vera: keep both factors random and frozen, shared by all layers, and learn two vectors for each layer (VeRA,
            arXiv 2310.11454): ``lambda_d``, a number for each rank, starts at 0.1, and ``lambda_b``, one for each
            output, at 0. A pack then holds only the vectors. In memory each layer has its own factors. A rank may
            exceed a layer's sides.
        dropout: on the input of the low-rank path, in training, of Linear, Conv1d, Conv2d, Embedding and transformers'
            Conv1D. All other modules compute with the whole weight, without such a path, and a rank of 0 has none: an
            UnusedOptionWarning names them.
        persistent: keep the backbone in the state_dict. By default a checkpoint holds what is trained, and the recipe.
        backbone: as in load(): ``"virtual"`` for ``sign1`` and ``"blocks"`` for any table take the weights' memory away
            and make them at each product; by layer or by size if it is a mapping or a function.
        max_bytes: the most memory that the model may take then, the largest block of weights included.
        overwrite_pretrained: replace the weights of a model from ``from_pretrained`` too. It is refused otherwise, as
            far as it can be told: transformers marks what it loads; a copy of the model, or a state_dict that was
            loaded into it, cannot be told from random weights.

    Raises:
        ScaffoldError: an argument is wrong, or a layer cannot be scaffolded; the message names it.
        ArchitectureError: the model cannot be described as data.
        UnsupportedError: a layer's weight must be in memory; the message names the layer.
        LimitError: ``max_bytes`` is too small.

    Source:
        LottaLoRA (arXiv 2604.08749), ``beta * W + (alpha / r) * B A``; spec/v1/recipe.md and spec/v1/merge.md.

    Examples:
        >>> net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        >>> model = lottapack.scaffold(net, seed=42, rank=2)
        >>> [name for name, tensor in model.named_parameters() if tensor.requires_grad]
        ['0.bias', '0.lora_A', '0.lora_B', '0.beta', '2.weight', '2.bias']
    """
    if is_scaffolded(model):
        raise ScaffoldError("the model is scaffolded already", hint="Build the model anew to scaffold it differently.")
    require_flags(vera=vera, persistent=persistent, overwrite_pretrained=overwrite_pretrained)
    require_random(model, overwrite_pretrained)
    tables = tables_of(distribution)
    check_seed(seed)
    width = Width(init, scale)
    _check_arguments(rank, alpha, scaling, beta, dropout)
    _check_factors(rank, frozen_factor, shared_factor, vera=vera)
    require_named(model)
    architecture, built = arch.described(model)
    entries = entries_of(model)
    require_apart(entries)
    require_free_name(model, entries)
    planned = without_memory(entries)
    vectors = (*(LAMBDAS if vera else ()), *_SCALES.get(beta, ()))
    planner = Planner(rank, alpha, scaling, tables, width, bool(beta == "learned"), shared_factor, vectors)
    plan = planner.plan(entries, targets, train)
    if vera:
        plan = shared_by_layers(plan)
    elif frozen_factor is not None:
        plan = _with_frozen(plan, entries, frozen_factor)
    recipe = Recipe(
        lottapack_recipe=RECIPE_VERSION,
        architecture=architecture,
        rng=recipe_rng(seed, tables.by_pattern.values(), scaffolds),
        parameters=plan,
    )
    tell_of_what_is_in_full(entries, plan, rank)
    for name, message in name_clashes(recipe):
        raise ScaffoldError(f"{name} {message}", hint="Rename the module or the parameter.")
    chosen = {} if backbone == MATERIALISED else choose(backbone, generated_by(recipe))
    chosen = with_forms(model, recipe, chosen, backbone)
    if chosen and persistent:
        raise ScaffoldError(
            f"{next(iter(chosen))} cannot be in checkpoints, since it is not in memory", hint="Leave out `persistent`."
        )
    needed = needed_bytes(model, recipe, chosen)
    require_bytes(max_bytes)
    left = None if max_bytes is None else max_bytes - needed
    if max_bytes is not None:
        check_memory("scaffold()", needed, max_bytes)
    require_forms(model, recipe, chosen, left)
    if dropout:
        _warn_of_dropout(without_dropout(model, recipe))
    note_built(model, built)
    note_as_built(model, built)
    attach(model, recipe, dropout=dropout, persistent=persistent)
    virtualise(model, recipe, chosen, left)
    if planned:
        await_values(model)
    else:
        generate_(model)
        _draw_trained(entries, recipe)
    return exclude_from_ddp(model)


def _warn_of_dropout(inert: Mapping[str, list[str]]) -> None:
    """Warn the caller of scaffold() of adapters on which dropout has no effect, by the reason."""
    for why, names in inert.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        warnings.warn(
            f"dropout has no effect on {', '.join(names[:3])}{more}: {why}",
            UnusedOptionWarning,
            stacklevel=3,
        )


def _check_arguments(
    rank: int | Mapping[str, int], alpha: float | None, scaling: str, beta: str | float, dropout: float
) -> None:
    for one in rank.values() if isinstance(rank, Mapping) else [rank]:
        if isinstance(one, bool) or not isinstance(one, Integral) or one < (0 if beta in tuple(_SCALES) else 1):
            raise ScaffoldError(
                f'rank={rank!r} must be integers of at least 1, or 0 with beta="input" or "output"',
                hint="Pass an integer such as 8, or ranks by pattern.",
            )
    if alpha is not None and not (isinstance(alpha, Real) and math.isfinite(alpha) and alpha > 0):
        raise ScaffoldError(f"alpha={alpha!r} must be a number above 0", hint="Leave it out to use the rank.")
    if scaling not in SCALINGS:
        raise ScaffoldError(f"scaling={scaling!r}: choose one of {', '.join(SCALINGS)}", hint="The default is lora.")
    if not any(rank.values() if isinstance(rank, Mapping) else [rank]):
        unused = {"alpha": alpha is not None, "scaling": scaling != "lora", "dropout": bool(dropout)}
        for name in (name for name, given in unused.items() if given):
            raise ScaffoldError(f"{name} has no effect with rank=0, which has no factors", hint=f"Leave out `{name}`.")
    if not isinstance(beta, str | Real) or beta not in ("learned", "input", "output", 1.0):
        raise ScaffoldError(f'beta={beta!r} must be "learned", "input", "output" or 1.0', hint="Pass one of these.")
    if not (isinstance(dropout, Real) and 0 <= dropout < 1):
        raise ScaffoldError(
            f"dropout={dropout!r} must be a probability of at least 0 and less than 1", hint="The default is 0."
        )


def _check_factors(
    rank: int | Mapping[str, int],
    frozen_factor: str | None,
    shared_factor: str | Mapping[str, str] | None,
    *,
    vera: bool,
) -> None:
    for shared in shared_factor.values() if isinstance(shared_factor, Mapping) else [shared_factor]:
        if shared not in FACTORS and (shared is not None or isinstance(shared_factor, Mapping)):
            raise ScaffoldError(
                f"shared_factor={shared_factor!r}: choose one of {', '.join(FACTORS)}, or these by pattern",
                hint="By default no factor is shared.",
            )
    if frozen_factor not in (None, *FACTORS):
        raise ScaffoldError(
            f"frozen_factor={frozen_factor!r}: choose one of {', '.join(FACTORS)}, or None",
            hint="By default both factors are trained.",
        )
    if vera and frozen_factor is not None:
        raise ScaffoldError(
            f"frozen_factor={frozen_factor!r} has no effect with vera=True, which freezes both factors",
            hint="Pass one of the two.",
        )
    if (vera or frozen_factor is not None) and 0 in (rank.values() if isinstance(rank, Mapping) else [rank]):
        raise ScaffoldError(
            f"rank={rank!r}: a rank of 0 has no factors to freeze", hint="Leave out vera or frozen_factor, or raise it."
        )


def _with_frozen(
    plan: Mapping[str, ParameterRecipe], entries: Iterable[Entry], factor: str
) -> dict[str, ParameterRecipe]:
    """Return the plan with one factor of each adapter frozen and generated from the seed."""
    by_name = {entry.name: entry for entry in entries}

    def frozen(name: str, entry: ParameterRecipe) -> ParameterRecipe:
        if not isinstance(entry, AdaptedRecipe):
            return entry
        return msgspec.structs.replace(entry, seeded={factor: _drawn_factor(by_name[name], entry, factor)})

    return {name: frozen(name, entry) for name, entry in plan.items()}


def _drawn_factor(entry: Entry, plan: AdaptedRecipe, factor: str) -> SeededPart:
    """Return the Kaiming uniform distribution of a factor, by its number of inputs (the rank for ``lora_B``)."""
    bound = factor_bound(entry) if factor == "lora_A" else plan.rank**-0.5
    return SeededPart(distribution="uniform16", scale=rng.binary32(bound))


@torch.no_grad()
def _draw_trained(entries: list[Entry], recipe: Recipe) -> None:
    """Draw the initial values of trained parameters.

    A Kaiming uniform, B zeros, beta 1 (the paper); weights of layers trained in full normal with 1 / sqrt(d_in);
    biases of all these layers 0. Norms and all other tensors keep their values.
    """
    normal = rng.builtin("normal16")
    for entry in entries:
        plan = recipe.parameters[entry.name]
        if isinstance(plan, AdaptedRecipe):
            _draw_adapter(entry, plan, recipe)
        elif isinstance(plan, StoredRecipe) and plan.trained and entry.can_generate and entry.tensor.numel():
            dtype = dtypes.dtype_name(entry.tensor.dtype)
            scale = rng.binary32(default_scale(entry, normal))
            rng.fill_(entry.tensor.data, rng.Source(recipe.seed, entry.name, normal, scale, dtype))
            padding = getattr(entry.module, "padding_idx", None)
            if padding is not None:
                entry.tensor[padding].zero_()
        bias = entry.module._parameters.get("bias")
        if entry.can_generate and bias is not None:
            bias.zero_()


def _draw_adapter(entry: Entry, plan: AdaptedRecipe, recipe: Recipe) -> None:
    """Draw one adapter: a factor that is learned beside a random one starts at zero."""
    parts = dict(zip(ADAPTER_PARTS, adapter_of(entry.module, entry.leaf), strict=True))
    for part, first in _FIRST_VALUES.items():
        tensor = parts[part]
        if tensor is not None:
            tensor.fill_(first)
    random = dict(plan.seeded or {})
    if plan.rank and not random and not plan.slices:
        random = {"lora_A": _drawn_factor(entry, plan, "lora_A")}
    for part in FACTORS:
        tensor = parts[part]
        if tensor is None:
            continue
        owner = (plan.slices or {}).get(part, entry.name)
        whole = recipe.parameters[owner]
        assert isinstance(whole, AdaptedRecipe)
        drawn = random.get(part) if owner == entry.name else (whole.seeded or {}).get(part)
        if drawn is None:
            tensor.zero_()
            continue
        made = projection(recipe.seed, owner, part, drawn, tensor.new_empty(adapter_shapes(whole)[part]))
        tensor.copy_(made if made.shape == tensor.shape else made[: tensor.shape[0], : tensor.shape[1]])
