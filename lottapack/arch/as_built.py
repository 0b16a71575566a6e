"""What a module is besides its tensors: classes, plain attributes, hooks, and what its constructor computes.

Noted when a model is built, and compared when its state_dict is made (spec: recipe, the moment).
"""

import hashlib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # SyncBatchNorm stands for each of them in training

from lottapack.arch.noted import noted, notes
from lottapack.arch.skeleton import attributes, unwrapped
from lottapack.format import dtypes
from lottapack.format.recipe import Change

_OF_TORCH: Final = frozenset(vars(nn.Module()))

_OF_THE_MOMENT: Final = frozenset(
    {
        "training",
        "gradient_checkpointing",
        "grad_checkpointing",
        "all_tied_weights_keys",
        "is_parallelizable",
        "name_or_path",
        "model_parallel",
        "max_seq_len_cached",
    }
)
"""Attributes by which libraries note how a model is being run, not what it is."""

_OBSERVERS: Final = frozenset(
    {
        *("accelerate", "comet_ml", "deepspeed", "fvcore", "lightning", "lightning_fabric", "lottapack", "mlflow"),
        *("peft", "pytorch_lightning", "torch", "torchao", "torchinfo", "transformers", "wandb"),
    }
)
"""Packages whose hooks watch a model or change how it runs. What else they do to it shows in its tensors or classes."""

_MADE_ANEW: Final = frozenset({"dynamic", "longrope"})
"""Kinds of rotary embeddings whose forward passes compute their frequencies again."""

_BASES: Final = (
    "torch.nn.modules.module",
    "transformers.modeling_utils",
    "transformers.generation",
    "transformers.utils",
)
"""Where the classes are that all modules, or all models of a library, derive from."""

THE_MODEL: Final = "the model"
_OWN: Final = "is its class's own"


@dataclass(frozen=True, eq=False)
class AsBuilt:
    """A module as its constructor made it.

    ``told``: by the name of a module its class, by the name of an attribute its value, by ``NAME.forward`` what runs
    besides the class's own forward, in words. ``containers``: modules that run whatever children they have.
    ``computed``: copies of the tensors that no checkpoint holds, by name.
    """

    told: Mapping[str, str]
    containers: frozenset[str]
    computed: Mapping[str, Tensor]

    def __deepcopy__(self, _: Any) -> "AsBuilt":
        return self  # nothing in it is ever changed

    def differences(self, model: nn.Module) -> dict[str, Change]:
        """Return what is otherwise in a model now, by place."""
        changes: dict[str, Change] = {}
        live = {place: (text, usual) for place, text, usual in _told(model)}
        for place, (text, usual) in live.items():
            due = self.told.get(place, usual)
            if due is None and place.rpartition(".")[0] in self.containers and text.startswith("is a "):
                due = "is not there"
            if due is not None and due != text:
                changes[place] = Change(now=text, due=due)
        for place, due in self.told.items():
            if place not in live and due.startswith("is a ") and place.rpartition(".")[0] in self.containers:
                changes[place] = Change(now="is not there", due=due)
        for name, now in _by_plain_name(model).items():
            kept = self.computed.get(name)
            if kept is None or now.shape != kept.shape or not has_values(now):
                continue
            text, due = _values(now), _values(kept.to(now.dtype))
            if text != due and not _is_rounding(now, kept):
                changes[name] = Change(now=text, due=due)
        return changes

    def seen_from(self, other: "AsBuilt", changes: Mapping[str, Change]) -> dict[str, Change]:
        """Return the differences from another build of a model that differs from this one by ``changes``."""
        found = dict(changes)
        for place, due in other.told.items():
            now = changes[place].now if place in changes else self.told.get(place)
            if now is not None and now != due:
                found[place] = Change(now=now, due=due)
            else:
                found.pop(place, None)
        for place in [place for place in changes if place not in other.told and changes[place].now == "is not there"]:
            del found[place]
        for name, computed in other.computed.items():
            mine = self.computed.get(name)
            found.pop(name, None)
            if mine is None or mine.shape != computed.shape:
                continue
            held = changes[name].now if name in changes else _values(mine)
            wanted = _values(computed.to(dtypes.torch_dtype(held.split()[-2])))
            if held != wanted:
                found[name] = Change(now=held, due=wanted)
        return found


def as_built(model: nn.Module) -> AsBuilt:
    """Return what a module is now."""
    told = {place: text for place, text, _ in _told(model)}
    containers = frozenset(
        name for name, module in plain_modules(model) if isinstance(module, nn.Sequential | nn.ModuleList)
    )
    follows = {name for name, module in plain_modules(model) if _MADE_ANEW & _rope_types(module)}
    computed = {
        name: tensor.detach().cpu().clone()
        for name, tensor in _by_plain_name(model).items()
        if has_values(tensor) and name.rpartition(".")[0] not in follows
    }
    return AsBuilt(told, containers, computed)


def note_as_built(model: nn.Module, built: nn.Module) -> None:
    """Note on a model, if nothing is noted yet, what its constructor makes, as ``built``, which may be the model."""
    if noted(model).built is None:
        notes(model).built = as_built(built)


def differences(model: nn.Module) -> dict[str, Change]:
    """Return what of a model is no longer what was noted, by place."""
    built = noted(model).built
    return {} if built is None else built.differences(model)


def has_values(tensor: Tensor) -> bool:
    """Return whether a tensor is ordinary and in memory: not sharded, not fake, not sparse, not on the meta device."""
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_meta


def _told(model: nn.Module) -> Iterator[tuple[str, str, str | None]]:
    """Places, what is there, and what is there in a module that says nothing of it."""
    for name, module in plain_modules(model):
        yield name or THE_MODEL, f"is a {_class_of(module)}", None
        dot = f"{name}." if name else ""
        yield f"{dot}forward", _hooked(module), _OWN
        for key, value in vars(module).items():
            if key in _OF_TORCH or _is_passed_over(module, key):
                continue
            usual = getattr(type(module), key, None)
            if callable(usual) and not isinstance(usual, type):
                if replacing := _stranger(value, usual):
                    yield f"{dot}{key}", f"is replaced by {replacing}", _OWN
            elif (text := _said(value)) is not None:
                yield f"{dot}{key}", text, None if usual is None else _said(usual)


def _is_passed_over(module: nn.Module, key: str) -> bool:
    """Whether an attribute says how a model is run, or what its tensors tell."""
    library = hasattr(module, "config_class")
    if key == "padding_idx":
        # It says which row has no gradient, and no more: a trainer that sets pad_token_id leaves it.
        return library or isinstance(module, nn.Embedding)
    if key == "vocab_size":
        return library  # resize_token_embeddings() sets it on the outermost model, and these read the configuration
    if library and key.startswith("_"):
        return True  # what it keeps about loading, saving and ties
    if key == "attention_scaling":
        return bool(_MADE_ANEW & _rope_types(module))
    return key in _OF_THE_MOMENT or key.startswith("_lottapack") or _is_of_a_base(type(module), key)


def _is_of_a_base(cls: type, key: str) -> bool:
    """Whether a method is one that every module has, or every model of the library: it makes no outputs."""
    owner = next((base for base in cls.__mro__ if key in vars(base)), None)
    return key != "forward" and owner is not None and owner.__module__.startswith(_BASES)


def plain_modules(
    module: nn.Module, name: str = "", around: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[str, nn.Module]]:
    """Return every module under each of its names, without those that wrap it to run it."""
    module = _inside(module)
    if any(module is one for one in around):
        return
    yield name, module
    for child_name, child in module._modules.items():
        if child is not None:
            yield from plain_modules(child, f"{name}.{child_name}" if name else child_name, (*around, module))


def _inside(module: nn.Module) -> nn.Module:
    while True:
        inner = unwrapped(module)
        if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        if inner is module:
            return module
        module = inner


def _class_of(module: nn.Module) -> str:
    """The class that a module was built as, below what torch's parallelism and lottapack's adapters make of it."""
    if isinstance(module, _BatchNorm) and type(module).__module__ == _BatchNorm.__module__:
        return "torch.nn.modules.batchnorm.BatchNorm"
    for cls in type(module).__mro__:
        derived = cls.__module__.startswith("torch.") and cls.__name__.startswith(("FSDP", "Parametrized"))
        if not derived and not cls.__module__.startswith("lottapack."):
            return f"{cls.__module__}.{cls.__qualname__}"
    raise AssertionError  # pragma: no cover (object is the last)


def _hooked(module: nn.Module) -> str:
    """What user code runs around a module's forward, or instead of it."""
    cls = type(module).forward
    hooks = [("runs the forward pre-hook", hook) for hook in module._forward_pre_hooks.values()]
    hooks += [("runs the forward hook", hook) for hook in module._forward_hooks.values()]
    if "forward" in vars(module):
        hooks.append(("is replaced by", vars(module)["forward"]))
    found = [f"{how} {name}" for how, hook in hooks if (name := _stranger(hook, cls))]
    return " and ".join(found) or _OWN


def _stranger(hook: Any, own: Any) -> str | None:
    """The name of a function, but for the class's own and those of packages that watch and run models."""
    while isinstance(hook, partial | types.MethodType):
        hook = hook.func if isinstance(hook, partial) else hook.__func__
    function: Any = hook if hasattr(hook, "__code__") else type(hook).__call__
    where = getattr(function, "__globals__", {}).get("__name__", type(hook).__module__)
    computes = where == "torch.nn.functional"  # a function such as relu, in the place of a forward
    if hook is own or (where.partition(".")[0] in _OBSERVERS and not computes):
        return None
    return f"{where}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"


def _rope_types(module: nn.Module) -> set[str]:
    rule = vars(module).get("rope_type")
    return {str(one) for one in (rule.values() if isinstance(rule, dict) else (rule,))}


def _by_plain_name(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{leaf}" if name else leaf: tensor
        for name, module in plain_modules(model)
        for leaf, tensor in _computed(module)
    }


def _computed(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for leaf in module._non_persistent_buffers_set:
        buffer = module._buffers.get(leaf)
        if buffer is not None:
            yield leaf, buffer
    yield from attributes(module)


def _values(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    kind, digest = str(tensor.dtype).removeprefix("torch."), hashlib.blake2b(data, digest_size=8).hexdigest()
    return f"holds values of {kind} {digest}"


def _is_rounding(now: Tensor, kept: Tensor) -> bool:
    """Whether values differ by what an average over buffers rounds, far less than a cast to a narrower dtype does."""
    return now.is_floating_point() and torch.allclose(now.detach().cpu().double(), kept.double(), rtol=2**-16, atol=0)


def _said(value: Any) -> str | None:
    """An attribute's value in words; None for an object that cannot be told from another."""
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return f"is the function {value.__module__}.{value.__qualname__}"
    try:
        return f"is {_plain(value)!r}"
    except TypeError:
        return None


def _plain(value: Any) -> Any:
    """With lists for tuples, and whole numbers for floats that are such: a configuration may give them back so."""
    if isinstance(value, np.generic | Enum):
        return _plain(value.item() if isinstance(value, np.generic) else value.value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError
