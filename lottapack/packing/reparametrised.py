"""Parameters that are missing because torch computes them from others: pruned ones, those under weight norm."""

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
"""What begins the name of a tensor beside the parameter, what that says, and what undoes it and keeps the values."""


def lacking(name: str, held: Collection[str]) -> CheckpointError:
    """The error for a checkpoint without a parameter. ``held``: the names of its tensors."""
    prefix, dot, leaf = name.rpartition(".")
    for begin, how, undone in _WAYS:
        if any(other.startswith(prefix + dot + begin.format(leaf=leaf)) for other in held):
            return CheckpointError(
                f"{name} is {how}: the checkpoint holds what it is computed from, and a pack has no place for that",
                hint=f"Before saving or packing call {undone.format(leaf=leaf)}, where module is "
                f"{f'model.get_submodule({prefix!r})' if prefix else 'the model'}: it keeps the values of now.",
            )
    return CheckpointError(
        f"the checkpoint lacks {name}",
        hint="Save the whole state_dict of the scaffolded model: torch.save(model.state_dict(), FILE).",
    )
