"""Keep generated weights in their process: DistributedDataParallel must not send them."""

from collections.abc import Iterator

from torch import nn

from lottapack.arch.noted import noted, recipe_on, require_module
from lottapack.arch.skeleton import plain_name
from lottapack.format import recipe
from lottapack.format.names import parameter_of
from lottapack.format.recipe import AdaptedRecipe, Recipe, SeededRecipe
from lottapack.nn.generated_layer import held_as

_IGNORED = "_ddp_params_and_buffers_to_ignore"
"""The attribute of the module given to DDP with the names that torch neither sends nor reduces."""


def exclude_from_ddp(module: nn.Module) -> nn.Module:
    """Exclude the generated weights inside a module from DDP. Changes the module and returns it.

    By default, DDP sends all buffers of the first process to the others, at the start and before each forward pass.
    That would send a whole backbone over the network, and onto processes on another scaffold. ``scaffold()`` and
    ``load()`` call this for their model. If that model is a part of the module that DDP gets, such as a
    LightningModule, call it for that module before DDP wraps it.

    Args:
        module: the module that DDP gets.

    Returns:
        The module.

    Source:
        ``DistributedDataParallel._set_params_and_buffers_to_ignore_for_model`` of torch.

    Examples:
        >>> class Task(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = lottapack.scaffold(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 4)), seed=1, rank=2)
        ...         lottapack.distributed.exclude_from_ddp(self)
        >>> task = Task()
    """
    require_module(module)
    names = set(module.__dict__.get(_IGNORED, ()))
    for path, part in module.named_modules(remove_duplicate=False):
        if noted(part).recipe is not None:
            local = list(_local_names(part, recipe_on(part)))
            names |= {f"{path}.{name}" if path else name for name in local}
            if not path:  # torch.compile wraps the module, and passes this attribute on
                names |= {f"_orig_mod.{name}" for name in local}
    if names:
        module.__dict__[_IGNORED] = sorted(names)
    return module


def _local_names(part: nn.Module, plan: Recipe) -> Iterator[str]:
    """Yield the names of the recipe and of generated weights: buffers, or frozen parameters that shards consist of."""
    for name, _ in part.named_buffers(remove_duplicate=False):
        short = plain_name(name)
        entry = plan.parameters.get(plan.resolve(parameter_of(short, plan.parameters)))
        if short == recipe.BUFFER or isinstance(entry, SeededRecipe | AdaptedRecipe):
            yield name
    for path, module in part.named_modules(remove_duplicate=False):
        for leaf in noted(module).sources:
            held = held_as(module, leaf)
            if held in module._parameters:
                yield f"{path}.{held}" if path else held
