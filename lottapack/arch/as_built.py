"""What a module is besides its tensors: classes, plain attributes, hooks, and what its constructor computes.

Noted when a model is built, and compared when its state_dict is made (spec: recipe, the moment).
"""

import dis
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # SyncBatchNorm stands for each of them in training

from lottapack.arch.noted import noted, notes
from lottapack.arch.said import NOT_DENSE, OBSERVERS, Teller, has_values, is_told, said, values
from lottapack.arch.skeleton import OF_TORCH, attributes, unwrapped
from lottapack.format import dtypes
from lottapack.format.recipe import Change

_OF_THE_MOMENT: Final = frozenset(
    {
        "training",
        "_requires_grad",
        "gradient_checkpointing",
        "grad_checkpointing",
        "_gradient_checkpointing_func",
        "all_tied_weights_keys",
        "is_parallelizable",
        "name_or_path",
        "model_parallel",
        "max_seq_len_cached",
    }
)
"""Attributes by which libraries note how a model is being run, not what it is."""

_MADE_ANEW: Final = frozenset({"dynamic", "longrope"})
"""Kinds of rotary embeddings whose forward passes compute their frequencies again."""

_BASES: Final = (
    "torch.nn.modules.module",
    "transformers.modeling_utils",
    "transformers.generation",
    "transformers.utils",
)
"""Where the classes are that all modules, or all models of a library, derive from."""

_LIBRARIES: Final = "torch.nn.", "transformers.", "timm."

_NORMS_OF_TIMM: Final = "timm.layers.norm_act"
FUSED: Final = "fused_attn"
"""The attribute by which a layer of timm says whether it uses torch's fused attention, which rounds otherwise."""

_Named = tuple[str, nn.Module]

_CONTAINERS: Final = nn.Sequential, nn.ModuleList, nn.ModuleDict

THE_MODEL: Final = "the model"
KEPT: Final = "keeps"
"""Begins the words for what forward passes keep where the constructor sets None."""
DROPS: Final = "drops"
"""Begins the words for how much a module of a library drops in training."""
GRADIENTS: Final = "gives gradients with"
"""Begins the words for how an embedding gives gradients."""
_EMBEDDINGS: Final = "torch.nn.modules.sparse."
_OF_GRADIENTS: Final = frozenset({"sparse", "scale_grad_by_freq"})
"""What embeddings only use in the backward pass."""
_SETTERS: Final = frozenset({"setattr", "__setattr__", "__dict__", "vars", "register_buffer", "add_module"})
_NONE: Final = "is None"
_ABSENT: Final = "is not there"
_OWN: Final = "is its class's own"


@dataclass(frozen=True, eq=False)
class AsBuilt:
    """A module as its constructor made it.

    ``told``: by the name of a module its class, by the name of an attribute its value, by ``NAME.forward`` what runs
    besides the class's own forward, in words. ``containers``: modules that run whatever children they have, each with
    the names of these.
    ``computed``: copies of the tensors that no checkpoint holds, by name.
    """

    told: Mapping[str, str]
    containers: Mapping[str, tuple[str, ...]]
    computed: Mapping[str, Tensor]

    def __deepcopy__(self, _: Any) -> "AsBuilt":
        return self  # nothing in it is ever changed

    def differences(self, model: nn.Module) -> dict[str, Change]:
        """Return what is otherwise in a model now, by place."""
        changes: dict[str, Change] = {}
        modules = plain_modules(model)
        live = {place: (text, usual) for place, text, usual in _told(modules)}
        by_name, own = dict(modules), _is_own(model)
        for place, (text, usual) in live.items():
            due = self.told.get(place, usual)
            if due == _NONE != text and _is_kept(by_name, place):
                text = f"{KEPT} {text.removeprefix('is ')}"
            runs = place.rpartition(".")[0] in self.containers and text.startswith("is a ")
            if due is None and (runs or (own and _is_read(by_name, place))):
                due = _ABSENT
            if due is not None and due != text:
                changes[place] = Change(now=text, due=due)
        changes |= dict(self._reordered(_containers(modules)))
        for place, due in self.told.items():
            if place not in live and (now := _instead(model, place, due)) != due:
                changes[place] = Change(now=now, due=due)
        return changes | dict(self._changed_tensors(_by_plain_name(modules), live, own=own))

    def _reordered(self, now: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, Change]]:
        """Yield the containers that run the children that they had in another order."""
        for name, children in now.items():
            before = self.containers.get(name, ())
            ours, due = [one for one in children if one in before], [one for one in before if one in children]
            if ours != due:
                yield name or THE_MODEL, Change(now=f"holds {', '.join(ours)}", due=f"holds {', '.join(due)}")

    def _changed_tensors(
        self, tensors: Mapping[str, Tensor], live: Mapping[str, tuple[str, str | None]], *, own: bool
    ) -> Iterator[tuple[str, Change]]:
        """Yield what became of the tensors that no checkpoint holds. ``own``: whether they may not be caches."""
        for name, now in tensors.items():
            kept = self.computed.get(name)
            if kept is None and own and self.told.get(name) == _NONE and is_told(now):
                yield name, Change(now=values(now), due=_NONE)
            if kept is None or not is_told(now):
                continue
            dense = has_values(now)
            if dense and now.shape != kept.shape:
                continue
            text, due = values(now), values(kept.to(now.dtype) if dense else kept)
            if text != due and not (dense and _is_rounding(now, kept)):
                yield name, Change(now=text, due=due)
        for name in self.computed.keys() - tensors.keys():
            if live.get(name, ("", None))[0] == _NONE:
                yield name, Change(now=_NONE, due=values(self.computed[name]))

    def seen_from(self, other: "AsBuilt", changes: Mapping[str, Change]) -> dict[str, Change]:
        """Return the differences from another build of a model that differs from this one by ``changes``."""
        found = dict(changes)
        for place, due in other.told.items():
            now = changes[place].now if place in changes else self.told.get(place)
            if now is not None and now != due:
                found[place] = Change(now=now, due=due)
            else:
                found.pop(place, None)
        for place in [place for place in changes if place not in other.told and changes[place].now == _ABSENT]:
            del found[place]
        for name, computed in other.computed.items():
            mine = self.computed.get(name)
            found.pop(name, None)
            if mine is None or mine.shape != computed.shape:
                continue
            held = changes[name].now if name in changes else values(mine)
            if held == _NONE or held.startswith(NOT_DENSE):
                found[name] = Change(now=held, due=values(computed))
                continue
            wanted = values(computed.to(dtypes.torch_dtype(held.split()[-2])))
            if held != wanted:
                found[name] = Change(now=held, due=wanted)
        return found


def as_built(model: nn.Module) -> AsBuilt:
    """Return what a module is now."""
    modules = plain_modules(model)
    told = {place: text for place, text, _ in _told(modules)}
    containers = _containers(modules)
    follows = {name for name, module in modules if _MADE_ANEW & _rope_types(module)}
    computed = {
        name: tensor.detach().cpu().clone()
        for name, tensor in _by_plain_name(modules).items()
        if has_values(tensor) and name.rpartition(".")[0] not in follows
    }
    return AsBuilt(told, containers, computed)


def _containers(modules: Iterable[_Named]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(module._modules) for name, module in modules if isinstance(module, _CONTAINERS)}


def note_as_built(model: nn.Module, built: nn.Module) -> None:
    """Note on a model, if nothing is noted yet, what its constructor makes, as ``built``, which may be the model."""
    if noted(model).built is None:
        notes(model).built = as_built(built)


def differences(model: nn.Module) -> dict[str, Change]:
    """Return what of a model is no longer what was noted, by place."""
    built = noted(model).built
    return {} if built is None else built.differences(model)


def _instead(model: nn.Module, place: str, due: str) -> str:
    """What is at a place that nothing tells of: of a missing attribute, what its class has under that name."""
    if due.startswith("is a "):
        return _ABSENT
    prefix, _, key = place.rpartition(".")
    owner = next((module for name, module in plain_modules(model) if name == prefix), None)
    usual = None if owner is None or key in vars(owner) else getattr(type(owner), key, None)
    return due if usual is None else said(usual) or due


def _is_own(model: nn.Module) -> bool:
    """Whether a model is of a class of the caller's own, which the caller can change."""
    architecture = noted(model).architecture
    return architecture is not None and architecture.family == "python"


def _told(modules: list[_Named]) -> Iterator[tuple[str, str, str | None]]:
    """Places, what is there, and what is there in a module that says nothing of it."""
    of_a_base = cache(_is_of_a_base)
    teller = Teller(configs=_is_own(modules[0][1]) or not hasattr(modules[0][1], "config_class"))
    for name, module in modules:
        yield name or THE_MODEL, f"is a {_class_of(module)}", None
        dot = f"{name}." if name else ""
        yield f"{dot}forward", _hooked(module), _OWN
        of_a_library = hasattr(module, "config_class")
        cls: Any = type(module)
        for key, value in vars(module).items():
            if key in OF_TORCH or _is_passed_over(module, key, of_a_library) or of_a_base(cls, key):
                continue
            usual = getattr(cls, key, None)
            if callable(usual) and not isinstance(usual, type):
                if replacing := _stranger(value, usual):
                    yield f"{dot}{key}", f"is replaced by {replacing}", _OWN
            elif _drops(module, key, value):
                yield f"{dot}{key}", f"{DROPS} {said(value)} in training".replace(" is ", " "), None
            elif key in _OF_GRADIENTS and _class_of(module).startswith(_EMBEDDINGS):
                yield f"{dot}{key}", f"{GRADIENTS} {key}={value!r}", None
            else:
                whole = f"{dot}{key}"
                for place, text in teller.parts(whole, _without_notes(key, value)):
                    yield place, text, None if usual is None or place != whole else said(usual)
        for leaf in module._non_persistent_buffers_set:
            if module._buffers.get(leaf) is None:
                yield f"{dot}{leaf}", _NONE, None


def _without_notes(key: str, value: Any) -> Any:
    """Return an attribute; the configuration of a model of diffusers without what its library notes there."""
    if key != "_internal_dict" or not isinstance(value, Mapping):
        return value
    return {name: one for name, one in value.items() if not str(name).startswith("_")}


def _drops(module: nn.Module, key: str, value: Any) -> bool:
    """Whether an attribute is the share that a module of a library drops in training, and in training alone."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        return False
    cls = _class_of(module)
    return cls.startswith(_LIBRARIES) and (
        "drop" in key or (key == "p" and cls.startswith("torch.nn.modules.dropout."))
    )


def _is_kept(modules: Mapping[str, nn.Module], place: str) -> bool:
    """Whether forward() of an attribute's module sets it, or in a library another method that users do not call so.

    Methods that set modules change what a library's model is.
    """
    prefix, _, key = place.rpartition(".")
    classes = () if prefix not in modules else type(modules[prefix]).__mro__
    return any(
        instruction.opname == "STORE_ATTR" and instruction.argval == key
        for cls in classes
        for name, method in vars(cls).items()
        if name == "forward"
        or (cls.__module__.startswith(_LIBRARIES) and not name.startswith(("__init__", "set")) and place not in modules)
        if isinstance(method, types.FunctionType)
        for instruction in dis.get_instructions(inspect.unwrap(method))
    )


def _is_read(modules: Mapping[str, nn.Module], place: str) -> bool:
    """Whether methods of an attribute's module read it, by name or by a text as for getattr(), and none sets it.

    Then a user set it, after the constructor. What a method sets is its cache.
    """
    prefix, _, key = place.rpartition(".")
    if prefix not in modules:
        return False
    classes = [cls for cls in type(modules[prefix]).__mro__ if cls.__module__.partition(".")[0] not in OBSERVERS]
    held = [one.fget if isinstance(one, property) else one for cls in classes for one in vars(cls).values()]
    methods = [inspect.unwrap(one) for one in held if isinstance(one, types.FunctionType)]
    codes = [code for one in methods for code in _codes(one.__code__) if key in (*code.co_names, *code.co_consts)]
    return bool(codes) and not any(_sets(code, key) for code in codes)


def _sets(code: types.CodeType, key: str) -> bool:
    """Whether a function may set an attribute, by a statement or by its name."""
    by_name = key in code.co_consts and not _SETTERS.isdisjoint(code.co_names)
    stores = (one for one in dis.get_instructions(code) if one.opname == "STORE_ATTR")
    return by_name or any(one.argval == key for one in stores)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _is_passed_over(module: nn.Module, key: str, library: bool) -> bool:
    """Whether an attribute says how a model is run, or what its tensors tell. ``library``: of a model of one."""
    if key == "padding_idx":
        # It says which row has no gradient, and no more: a trainer that sets pad_token_id leaves it.
        return library or isinstance(module, nn.Embedding)
    if key == "vocab_size":
        return library  # resize_token_embeddings() sets it on the outermost model, and these read the configuration
    if library and key.startswith("_"):
        return True  # what it keeps about loading, saving and ties
    if key == FUSED:
        return _class_of(module).startswith("timm.")
    if key == "attention_scaling":
        return bool(_MADE_ANEW & _rope_types(module))
    return key in _OF_THE_MOMENT or key.startswith("_lottapack")


def _is_of_a_base(cls: type, key: str) -> bool:
    """Whether a method is one that every module has, or every model of the library: it makes no outputs."""
    owner = next((base for base in cls.__mro__ if key in vars(base)), None)
    return key != "forward" and owner is not None and owner.__module__.startswith(_BASES)


def plain_modules(model: nn.Module) -> list[_Named]:
    """Return every module under each of its names, without those that wrap it to run it."""
    found = list[_Named]()
    _collect(found, model, "", ())
    return found


def _collect(found: list[_Named], module: nn.Module, name: str, around: tuple[nn.Module, ...]) -> None:
    module = _inside(module)
    if any(module is one for one in around):
        return
    found.append((name, module))
    if module._modules:
        around, dot = (*around, module), f"{name}." if name else ""
        for key, child in module._modules.items():
            if child is not None:
                _collect(found, child, f"{dot}{key}", around)


def _inside(module: nn.Module) -> nn.Module:
    while module._modules:
        inner = unwrapped(module)
        if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        if inner is module:
            break
        module = inner
    return module


def _class_of(module: nn.Module) -> str:
    """The class that a module was built as, below what torch's parallelism and lottapack's adapters make of it."""
    for cls in type(module).__mro__:
        derived = cls.__module__.startswith("torch.") and cls.__name__.startswith(("FSDP", "DDP", "Parametrized"))
        if not derived and not cls.__module__.startswith("lottapack."):
            if issubclass(cls, _BatchNorm) and cls.__module__ == _BatchNorm.__module__:
                return "torch.nn.modules.batchnorm.BatchNorm"
            if cls.__module__ == _NORMS_OF_TIMM and cls.__name__ == "SyncBatchNormAct":
                return f"{_NORMS_OF_TIMM}.BatchNormAct2d"  # it stands for one in training
            return f"{cls.__module__}.{cls.__qualname__}"
    raise AssertionError  # pragma: no cover (object is the last)


def _hooked(module: nn.Module) -> str:
    """What user code runs around a module's forward, or instead of it."""
    cls = getattr(type(module), "forward", None)  # scripted modules have it in their instance
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
    if hook is own or (where.partition(".")[0] in OBSERVERS and not computes):
        return None
    return f"{where}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"


def _rope_types(module: nn.Module) -> set[str]:
    rule = vars(module).get("rope_type")
    return {str(one) for one in (rule.values() if isinstance(rule, dict) else (rule,))}


def _by_plain_name(modules: Iterable[_Named]) -> dict[str, Tensor]:
    return {
        f"{name}.{leaf}" if name else leaf: tensor for name, module in modules for leaf, tensor in _computed(module)
    }


def _computed(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for leaf in module._non_persistent_buffers_set:
        buffer = module._buffers.get(leaf)
        if buffer is not None:
            yield leaf, buffer
    yield from attributes(module)


def _is_rounding(now: Tensor, kept: Tensor) -> bool:
    """Whether values differ by what an average over buffers rounds, far less than a cast to a narrower dtype does."""
    return now.is_floating_point() and torch.allclose(now.detach().cpu().double(), kept.double(), rtol=2**-16, atol=0)
