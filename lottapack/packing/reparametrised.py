"""Parameters that are missing because torch computes them from others, such as pruned or normalised weights."""

from collections.abc import Collection, Sequence

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


_LONGEST_WRAP = 3


def lacking(name: str, held: Collection[str]) -> CheckpointError:
    """Return the error for a checkpoint without a parameter. ``held``: the names of its tensors."""
    prefix, dot, leaf = name.rpartition(".")
    for begin, how, undone in _WAYS:
        if any(other.startswith(prefix + dot + begin.format(leaf=leaf)) for other in held):
            return _computed(name, how, undone)
    wrapped = _wrapped(name, held)
    if wrapped is not None:
        around, inner = wrapped.removesuffix(leaf), wrapped.removesuffix(f".{leaf}")
        return CheckpointError(
            f"the checkpoint lacks {name}, but contains {wrapped}: {prefix or 'the model'} seems to be wrapped in a "
            f"module that holds it as {inner.removeprefix(prefix).strip('.')}",
            hint=f"Put {inner} back in its place before saving. Or rename what begins with {around!r} in the "
            f"checkpoint: {{name.replace({around!r}, {prefix + dot!r}): tensor for name, tensor in state.items()}}.",
        )
    return CheckpointError(
        f"the checkpoint lacks {name}",
        hint="Save the whole state_dict of the scaffolded model: torch.save(model.state_dict(), FILE).",
    )


def left_over(names: Sequence[str]) -> CheckpointError:
    """Return the error for tensors that the recipe does not know, of a checkpoint that lacks none."""
    for name in names:
        owner, _, rest = name.partition(".parametrizations.") if ".parametrizations." in name else ("", "", "")
        if owner:
            return _computed(f"{owner}.{rest.partition('.')[0]}", *_WAYS[-1][1:])
    hint = "Add modules before scaffold(), or leave these tensors out by name with `ignore`."
    if any(".lora_A." in name for name in names):
        hint = "These are PEFT adapters: save them with peft_model.save_pretrained(FOLDER), and pack that folder."
    return CheckpointError(
        f"the checkpoint contains {len(names)} tensors that its recipe does not describe: {', '.join(names[:5])}",
        hint=hint,
    )


def _computed(name: str, how: str, undone: str) -> CheckpointError:
    prefix, _, leaf = name.rpartition(".")
    return CheckpointError(
        f"{name} is {how}: the checkpoint contains the tensors that it is computed from, which a pack cannot store",
        hint=f"Before saving or packing call {undone.format(leaf=leaf)}, where module is "
        f"{f'model.get_submodule({prefix!r})' if prefix else 'the model'}. It keeps the present values.",
    )


def _wrapped(name: str, held: Collection[str]) -> str | None:
    """The name of a tensor that would be called ``name`` without some parts in front of its last one, or within."""
    parts = name.split(".")
    for other in sorted(held):
        longer = other.split(".")
        extra = len(longer) - len(parts)
        if 1 <= extra <= _LONGEST_WRAP and longer[-1] == parts[-1]:
            for at in range(len(parts)):
                if longer[:at] + longer[at + extra :] == parts:
                    return other
    return None
