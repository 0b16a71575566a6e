"""Parameters that are missing because torch computes them from others, such as pruned or normalised weights."""

from collections.abc import Collection

from lottapack.errors import CheckpointError

_WAYS = (
    ("{leaf}_mask", "pruned", "torch.nn.utils.prune.remove(module, {leaf!r})"),
    ("{leaf}_g", "under weight_norm", "torch.nn.utils.remove_weight_norm(module, {leaf!r})"),
    ("{leaf}_u", "under spectral_norm", "torch.nn.utils.remove_spectral_norm(module, {leaf!r})"),
    (
        "parametrizations.{leaf}.",
        "parametrized",
        "torch.nn.utils.parametrize.remove_parametrizations(module, {leaf!r})",
    ),
)
"""The beginning of the name of a tensor beside the parameter, its meaning, and the call that undoes it."""


def lacking(name: str, held: Collection[str]) -> CheckpointError:
    """Return the error for a checkpoint without a parameter. ``held``: the names of its tensors."""
    prefix, dot, leaf = name.rpartition(".")
    for begin, how, undone in _WAYS:
        if any(other.startswith(prefix + dot + begin.format(leaf=leaf)) for other in held):
            return CheckpointError(
                f"{name} is {how}: the checkpoint contains the tensors that it is computed from, which a pack "
                f"cannot store",
                hint=f"Before saving or packing call {undone.format(leaf=leaf)}, where module is "
                f"{f'model.get_submodule({prefix!r})' if prefix else 'the model'}. It keeps the present values.",
            )
    return CheckpointError(
        f"the checkpoint lacks {name}",
        hint="Save the whole state_dict of the scaffolded model: torch.save(model.state_dict(), FILE).",
    )
