"""Select parameters for roles: by targets, by groups, or to be trained in full."""

import difflib
import fnmatch
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from lottapack import arch
from lottapack.arch.hidden import held_by_attributes
from lottapack.arch.skeleton import ALIAS, plain_name
from lottapack.errors import ArchitectureError, ScaffoldError
from lottapack.format.names import WEIGHT
from lottapack.format.recipe import BUFFER
from lottapack.nn.kinds import Kind, kind_of, stood_for, takes_any_form
from lottapack.nn.rows import row_of

T = TypeVar("T")
GROUP_WORDS = {"heads": "head", "norms": "norm", "biases": "bias", "embeddings": "embedding", "rest": "other"}
DEFAULT_TRAIN = tuple(GROUP_WORDS)
_NO_WEIGHTS = ("buffer", "norm", "bias")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the plain state_dict.

    ``tied``: the earlier entry with the same tensor, or empty. ``can_generate``: whether this is the weight of a
    layer whose product lottapack computes itself. ``kind``: how it is stored as a weight, or None if it cannot have
    an adapter.
    """

    name: str
    module_name: str
    module: nn.Module
    leaf: str
    tensor: Tensor
    group: str
    tied: str
    can_generate: bool
    kind: Kind | None = None


def entries_of(model: nn.Module, heads: set[str] | None = None) -> list[Entry]:
    """Return the entries of a model's state_dict with owner and group. ``heads``: by default those of its family.

    Raises ScaffoldError for a scripted module, ArchitectureError for a state_dict that leaves tensors out.
    """
    if heads is None:
        heads = arch.family_of(model).heads(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    scripted = next((name for name, module in modules.items() if isinstance(module, torch.jit.ScriptModule)), None)
    if scripted is not None:
        raise ScaffoldError(
            f"{scripted or 'the model'} is a scripted module, whose parameters cannot be replaced",
            hint="Build the model without torch.jit.script, and use torch.compile after scaffold().",
        )
    first: dict[int, str] = {}
    found = []
    state = model.state_dict(keep_vars=True)
    _require_whole(modules, state)
    for name, tensor in state.items():
        module_name, _, leaf = name.rpartition(".")
        module = modules[module_name]
        tied = first.setdefault(id(tensor), name)
        owner_name, stands_for = stood_for(module, module_name, leaf)
        owner = modules[owner_name]
        group = group_of(module if leaf in module._buffers else owner, stands_for, owner_name in heads)
        stock = leaf == WEIGHT and row_of(module) is not None
        is_one = stock or (group not in _NO_WEIGHTS and takes_any_form(module))
        kind = kind_of(owner, stands_for, tensor) if is_one else None
        tied_to, can_generate = "" if tied == name else tied, stock and kind is not None
        found.append(Entry(name, module_name, module, leaf, tensor, group, tied_to, can_generate, kind))
    return found


def _require_whole(modules: Mapping[str, nn.Module], state: Mapping[str, object]) -> None:
    """Raise ArchitectureError if a model's state_dict leaves tensors out, or gives them other names.

    A pack holds the entries of the state_dict, and `load` gives these their values: all others would have none.
    """
    saved = {plain_name(name) for name in state}
    unsaved = [
        name
        for prefix, module in modules.items()
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and leaf not in module._non_persistent_buffers_set
        if (name := plain_name(f"{prefix}.{leaf}" if prefix else leaf)) not in saved
    ]
    if unsaved:
        more = f" and {len(unsaved) - 3} more" if len(unsaved) > 3 else ""
        raise ArchitectureError(
            f"the model's state_dict() does not contain {', '.join(unsaved[:3])}{more}, which the model holds: its "
            "class or a hook leaves tensors out or renames them, so a pack would lack them",
            hint="Remove that hook or method, or hold these tensors outside the model and pass them to its forward().",
        )


def require_free_name(model: nn.Module, entries: Iterable[Entry]) -> None:
    """Raise ScaffoldError for a model that already uses the name of the recipe."""
    taken = [entry.name for entry in entries if entry.leaf == BUFFER]
    if hasattr(model, BUFFER) or taken:
        raise ScaffoldError(
            f"the model already uses the name {(taken or [BUFFER])[0]}, which lottapack needs for its recipe",
            hint="Rename that module, parameter or buffer.",
        )


def require_random(model: nn.Module, overwrite: bool) -> None:
    """Raise ScaffoldError for a model that transformers loaded from a checkpoint, unless it may be overwritten.

    The library marks each tensor that it loads. Weights that were loaded in another way are not detected.
    """
    loaded = [
        name
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if getattr(tensor, "_is_hf_initialized", False)
    ]
    if loaded and not overwrite:
        raise ScaffoldError(
            f"the model was loaded from a checkpoint ({len(loaded)} tensors, such as {loaded[0]}). lottapack is for "
            "models trained from random weights: a seed would replace every weight",
            hint="Build the model from its configuration, such as AutoModel.from_config(config), or its class. To "
            "replace the loaded weights, pass overwrite_pretrained=True.",
        )


def without_memory(entries: Iterable[Entry]) -> bool:
    """Return whether a model is on the meta device. Raises ScaffoldError if only a part of it is."""
    on_meta = [entry.tensor.is_meta for entry in entries]
    if not all(on_meta):
        require_values(entries)
    return bool(on_meta) and all(on_meta)


def require_values(entries: Iterable[Entry]) -> None:
    """Raise ScaffoldError for a tensor on the meta device."""
    for entry in entries:
        if entry.tensor.is_meta:
            raise ScaffoldError(
                f"{entry.name} is on the meta device",
                hint="Build the model on a CPU or a GPU. to_empty() alone leaves norms and buffers without values: "
                "call model.init_weights() after it for a transformers model, or the model's own initialisation.",
            )


def require_named(model: nn.Module) -> None:
    """Raise ScaffoldError for a tensor of the state_dict that an attribute leads to as well, without its adapter."""
    for place, name in held_by_attributes(model).aliases:
        raise ScaffoldError(
            f"{name} is also in {place}, which would neither see its adapter nor be rebuilt", hint=ALIAS
        )


def group_of(module: nn.Module, leaf: str, is_head: bool) -> str:
    """Return the group of a parameter or buffer (spec: descriptor, ``group``)."""
    if leaf in module._buffers:
        return "buffer"
    if is_norm(module):
        return "norm"
    if leaf == "bias" or leaf.startswith("bias_") or leaf.endswith("_bias"):
        return "bias"
    if isinstance(module, nn.Embedding):
        return "embedding"
    return "head" if is_head else "other"


def is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises. Libraries define their own norms, recognised by the class's name."""
    return "Norm" in type(module).__name__


class PerLayer(Generic[T]):
    """One value for all layers, or values by pattern, where the first matching pattern counts."""

    def __init__(self, value: T | Mapping[str, T], what: str) -> None:
        self.what = what
        several = isinstance(value, Mapping)
        self.by_pattern: Mapping[str, T] = cast("Mapping[str, T]", value) if several else {"*": cast("T", value)}
        self.patterns = Patterns(self.by_pattern, what) if several else None

    def is_general(self, entry: Entry) -> bool:
        """Return whether a layer has the general value: only the pattern ``*`` names it."""
        return self.patterns is None or self.patterns.first_match(entry) == "*"

    def of(self, entry: Entry) -> T:
        """Return the value for a layer. Raises ScaffoldError if no pattern names it."""
        pattern = self.patterns.first_match(entry) if self.patterns else "*"
        if pattern is None:
            raise ScaffoldError(
                f"{entry.module_name} does not match any pattern in {self.what}", hint='Add a last pattern "*".'
            )
        return self.by_pattern[pattern]

    def get(self, entry: Entry) -> T | None:
        """Return the value for a layer, or None if no pattern names it."""
        pattern = self.patterns.first_match(entry) if self.patterns else "*"
        return None if pattern is None else self.by_pattern[pattern]


class Patterns:
    """Names or glob patterns of modules and parameters.

    ``q_proj`` is every module whose name ends in that part, ``layers.0.*`` a glob over full names.
    """

    def __init__(self, patterns: Iterable[str], what: str) -> None:
        given = [patterns] if isinstance(patterns, str) or not isinstance(patterns, Iterable) else list(patterns)
        if not all(isinstance(pattern, str) for pattern in given):
            raise ScaffoldError(
                f"{what}={reprlib.repr(patterns)} must be names or patterns of layers, as text",
                hint="See model.named_modules() for the names.",
            )
        self.patterns: Sequence[str] = given
        self.what = what
        self.used: set[str] = set()

    def first_match(self, entry: Entry) -> str | None:
        """Return the first pattern that names the entry or its module."""
        for pattern in self.patterns:
            if self.names(pattern, entry):
                self.used.add(pattern)
                return pattern
        return None

    def names(self, pattern: str, entry: Entry) -> bool:
        """Return whether a pattern names an entry or its module."""
        return any(matches(pattern, name) for name in (entry.module_name, entry.name))

    def unused(self, entries: Sequence[Entry]) -> list[ScaffoldError]:
        """Return a fault for each pattern that names nothing."""
        names = {entry.module_name for entry in entries} | {entry.name for entry in entries}
        faults = []
        for pattern in self.patterns:
            if pattern not in self.used and not any(matches(pattern, name) for name in names):
                close = difflib.get_close_matches(pattern, sorted(names | {n.rpartition(".")[2] for n in names}), n=3)
                hint = f"Did you mean {' or '.join(close)}?" if close else "See model.named_modules() for the names."
                faults.append(ScaffoldError(f"{self.what}: no layer is called {pattern!r}", hint=hint))
        return faults


def without_effect(
    patterns: Patterns, entries: Sequence[Entry], used: Sequence[Entry], kind: str
) -> list[ScaffoldError]:
    """Return a fault for each pattern without effect.

    Args:
        patterns: of the values; a last ``*`` may have no effect.
        entries: of the model.
        used: those that need such a value.
        kind: the kind of these, such as ``layer with an adapter``.
    """
    deciding = {patterns.first_match(entry) for entry in used}
    faults = []
    for pattern in patterns.patterns:
        if pattern == "*" or pattern in deciding or not any(patterns.names(pattern, entry) for entry in entries):
            continue
        before = [patterns.first_match(entry) for entry in used if patterns.names(pattern, entry)]
        faults.append(
            ScaffoldError(
                f"{patterns.what}: {pattern!r} has no effect, because {before[0]!r} comes before it",
                hint="The first matching pattern counts. Put the narrower pattern first.",
            )
            if before
            else ScaffoldError(
                f"{patterns.what}: {pattern!r} has no effect, because it does not match a {kind}",
                hint=f"Leave it out of {patterns.what}, or choose other layers with `targets` and `train`.",
            )
        )
    return faults


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern names a module or parameter: a glob over full names, or the last parts of a name."""
    if any(sign in pattern for sign in "*?["):
        return fnmatch.fnmatchcase(name, pattern)
    return name == pattern or name.endswith(f".{pattern}")
