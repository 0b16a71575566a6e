"""Choose the model's state_dict in a checkpoint, and find what is beside it."""

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lottapack.arch.skeleton import plain_name
from lottapack.errors import CheckpointError
from lottapack.nn.select import matches

_MAX_NESTING = 3
_DEEPEST = 8
_TRAINER = re.compile(
    "optim(s|i[sz]ers?)?|sched(ulers?)?|(grad)?scaler|rng|random|callbacks?|loops?|samplers?|dataloaders?|hparams|hyper|"
    "args|config|cfg|metrics?|meters?|history|logs?|stats|trainer"
)
"""Words in the keys of a trainer's own data. Not ``criterion``, because a loss can be trained."""

_NUMBER = re.compile(
    "loss(es)?|acc(uracy)?|scores?|best|epochs?|steps?|iter(ations?)?|lr|time|error|perplexity|ppl|f1|bleu|wer|auc|"
    "val(id)?|test|train|eval|num|count|averaged|seed"
)
"""Words in the keys of single numbers."""

Prefixes = Callable[[Mapping[str, Any]], list[str]]


@dataclass(frozen=True)
class State:
    """A state_dict within a checkpoint.

    ``keys``: the keys that lead to it. ``tensors``: all its tensors, with wrappers' parts removed from the names.
    ``prefix``: what precedes the names of the model. ``mapping``: the state_dict itself.
    """

    keys: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    prefix: str
    mapping: Mapping[str, Any]

    @property
    def address(self) -> str:
        """Keys and prefix, as ``key`` names them."""
        return ".".join([*self.keys, *self.prefix.split(".")]).strip(".")

    def is_called(self, key: str) -> bool:
        """Return whether ``key`` is its address, or the keys before the prefix."""
        return key in (self.address, ".".join(self.keys))

    def is_within(self, key: str) -> bool:
        """Return whether ``key`` is a part of its address."""
        return f".{key}." in f".{self.address}."

    def own(self) -> dict[str, Tensor]:
        """Return the model's tensors by their names in the model."""
        return {
            name.removeprefix(self.prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(self.prefix)
        }


class LeftOut:
    """What pack() may leave out, and what it did leave out. ``names``: everything that is not in the pack."""

    def __init__(self, patterns: str | Iterable[str] = ()) -> None:
        try:
            given: list[Any] = [patterns] if isinstance(patterns, str) else list(patterns)
        except TypeError:  # also of a tensor without dimensions, which calls itself iterable
            given = [patterns]
        if not all(isinstance(pattern, str) for pattern in given):
            raise CheckpointError(f"ignore={reprlib.repr(patterns)} must be names or patterns", hint="Pass strings.")
        self.unused = dict.fromkeys(given)
        self.patterns = given
        self.names: list[str] = []

    def rest(self, names: Iterable[str]) -> list[str]:
        """Return the names that no pattern matches, and note the others. Patterns match tensors or their modules."""
        left: list[str] = []
        for name in names:
            parts = name.split(".")
            around = [".".join(parts[: count + 1]) for count in range(len(parts))]
            fits = [pattern for pattern in self.patterns if any(matches(pattern, one) for one in around)]
            for pattern in fits:
                self.unused.pop(pattern, None)
            (self.names if fits else left).append(name)
        return left

    def require_used(self) -> None:
        """Raise CheckpointError for a pattern that does not match anything that can be left out."""
        if self.unused:
            raise CheckpointError(
                f"`ignore`: {next(iter(self.unused))!r} does not match anything beside the model",
                hint="Remove this pattern. Tensors of the scaffolded model itself cannot be left out.",
            )


def choose(content: Mapping[str, Any], prefixes: Prefixes, key: str | None) -> tuple[State, list[State]] | None:
    """Return the state_dict to pack, and the others that could be meant; None if none exist.

    Args:
        content: the content of the checkpoint.
        prefixes: returns what precedes the names of each model in a state_dict.
        key: the caller's name for it, or None.

    Raises CheckpointError if several could be meant, or if none is called ``key``.
    """
    states = list(_walk(content, prefixes, ()))
    if not states:
        return None
    called = states
    if key is not None:
        exactly = [state for state in states if state.is_called(key)]
        called = exactly or [state for state in states if state.is_within(key)]
    if len(called) == 1:
        return called[0], [state for state in states if state is not called[0]]
    names = ", ".join(state.address or "(the top level)" for state in states[:5])
    what = f"the checkpoint contains {len(states)} models: {names}"
    if key is not None and not called:
        what = f"key={key!r} does not name a model in the checkpoint, which contains {names}"
    example = (called or states)[-1].address
    hint = f"Pack one at a time, such as `key={example}`." if example else "Leave out `key`."
    raise CheckpointError(what, hint=hint)


def require_tensors(content: Mapping[str, Any], name: str) -> None:
    """Raise CheckpointError if a checkpoint without a model holds ``name`` as another object than a tensor."""
    for keys, value in _others_called(content, name, ()):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise CheckpointError(
            f"{'.'.join(keys)} is a {kind}, not a torch.Tensor",
            hint="Convert the state_dict: {name: torch.as_tensor(value) for name, value in state.items()}.",
        )


def _others_called(value: Any, name: str, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the keys and values of what has a name, or a longer one that ends so, in a checkpoint, but no tensors."""
    if isinstance(value, Mapping) and len(keys) <= _MAX_NESTING:
        for key, item in value.items():
            here = (*keys, str(key))
            if f".{key}".endswith(f".{name}") and not isinstance(item, Tensor | Mapping):
                yield here, item
            yield from _others_called(item, name, here)


def _walk(content: Mapping[str, Any], prefixes: Prefixes, keys: tuple[str, ...]) -> Iterator[State]:
    tensors = _plainly_named(content)
    for prefix in prefixes(tensors):
        yield State(keys, tensors, prefix, content)
    if len(keys) < _MAX_NESTING:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _walk(value, prefixes, (*keys, str(key)))


def _plainly_named(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors by name, without what wrappers add to names."""
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            name = plain_name(key)
            if name in tensors:
                raise CheckpointError(
                    f"the checkpoint contains {name} twice, once inside a wrapper",
                    hint="Keep the one that was trained, and save the checkpoint again.",
                )
            tensors[name] = value
    return tensors


def beside(content: Mapping[str, Any], state: State, others: list[State]) -> Iterator[str]:
    """Yield the names of tensors that belong to no model and are not the trainer's own data."""
    known = {id(other.mapping) for other in [state, *others]}
    siblings = [other.prefix for other in others if other.mapping is state.mapping]
    for name, tensor in state.tensors.items():
        if not name.startswith((state.prefix, *siblings)) and not _is_number(name, tensor):
            yield name
    yield from _within(content, (), known)


def _within(value: Any, keys: tuple[str, ...], known: set[int]) -> Iterator[str]:
    """Yield the names of the tensors in a value, except those of the known state_dicts."""
    if isinstance(value, Tensor):
        if not keys or not _is_number(keys[-1], value):
            yield ".".join(keys)
    elif isinstance(value, nn.Module):
        yield from (".".join((*keys, name)) for name in value.state_dict())
    elif len(keys) < _DEEPEST:
        for key, item in _items(value):
            if not (id(value) in known and isinstance(item, Tensor)):
                yield from _within(item, (*keys, key), known)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container holds besides the trainer's own data."""
    if isinstance(value, Mapping):
        if not {"state", "param_groups"} <= value.keys():  # otherwise it is the state of an optimizer
            yield from ((str(key), item) for key, item in value.items() if not is_trainers(str(key)))
    elif isinstance(value, list | tuple | set):
        yield from ((str(number), item) for number, item in enumerate(value))


def _is_number(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor is a single number that trainers record, such as a loss. Parameters are not."""
    return tensor.dim() == 0 and not isinstance(tensor, nn.Parameter) and _has(_NUMBER, name.rpartition(".")[2])


def is_trainers(key: str) -> bool:
    """Return whether a key or a file's name is that of a trainer's own data."""
    return _has(_TRAINER, key)


def _has(words: re.Pattern[str], key: str) -> bool:
    """Return whether one of the words of a key, as in ``optimizer_states`` or ``lrScheduler``, matches."""
    parts = re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])", key)
    return any(words.fullmatch(word.lower()) for word in parts)
