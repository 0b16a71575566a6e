"""Which state_dict of a checkpoint is the model's, and what stands beside it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lottapack.arch.skeleton import WRAPPERS
from lottapack.errors import CheckpointError
from lottapack.nn.select import matches

_MAX_NESTING = 3
_DEEPEST = 8
_TRAINER = re.compile(
    "optim(s|i[sz]ers?)?|sched(ulers?)?|(grad)?scaler|rng|random|callbacks?|loops?|samplers?|dataloaders?|hparams|hyper|"
    "args|config|cfg|metrics?|meters?|history|logs?|stats|trainer"
)
"""Words in the keys of what a trainer keeps for itself. ``criterion`` is none of them: a loss can be trained."""

_NUMBER = re.compile(
    "loss(es)?|acc(uracy)?|scores?|best|epochs?|steps?|iter(ations?)?|lr|time|error|perplexity|ppl|f1|bleu|wer|auc|"
    "val(id)?|test|train|eval|num|count|averaged|seed"
)
"""Words in the keys of single numbers."""

Prefixes = Callable[[Mapping[str, Any]], list[str]]


@dataclass(frozen=True)
class State:
    """A state_dict within a checkpoint.

    ``keys``: on the way to it; ``tensors``: all that it holds, wrappers' parts taken out of the names; ``prefix``: what
    stands before the names of the model; ``mapping``: the state_dict as it is in the checkpoint.
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
        """Whether this is its address, or the keys in front of it."""
        return key in (self.address, ".".join(self.keys))

    def is_within(self, key: str) -> bool:
        """Whether a part of its address is called so."""
        return f".{key}." in f".{self.address}."

    def own(self) -> dict[str, Tensor]:
        """The model's tensors by their names in it."""
        return {
            name.removeprefix(self.prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(self.prefix)
        }


class LeftOut:
    """What a caller tells pack() to leave out, and what was. ``names``: all that is not in the pack."""

    def __init__(self, patterns: str | Iterable[str] = ()) -> None:
        given = [patterns] if isinstance(patterns, str) else list(patterns)
        if not all(isinstance(pattern, str) for pattern in given):
            raise CheckpointError(f"ignore={patterns!r}: names or patterns of tensors, which are text")
        self.unused = dict.fromkeys(given)
        self.patterns = given
        self.names: list[str] = []

    def rest(self, names: Iterable[str]) -> list[str]:
        """Those that no pattern names; the others are noted. A pattern names a tensor, or a module around it."""
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
        """Raise CheckpointError for a pattern that names nothing that could be left out."""
        if self.unused:
            raise CheckpointError(
                f"ignore (--ignore): nothing beside the model is called {next(iter(self.unused))!r}",
                hint="What belongs to the scaffolded model cannot be left out. Leave this pattern away.",
            )


def choose(content: Mapping[str, Any], prefixes: Prefixes, key: str | None) -> tuple[State, list[State]] | None:
    """The state_dict to pack, and the others that could be meant; None if there is none.

    Args:
        content: of the checkpoint.
        prefixes: says of a state_dict what stands before the names of each model in it.
        key: what the caller calls it, or None.

    Raises CheckpointError where several could be meant, or none is called so.
    """
    found = list(_walk(content, prefixes, ()))
    if not found:
        return None
    called = found
    if key is not None:
        exactly = [state for state in found if state.is_called(key)]
        called = exactly or [state for state in found if state.is_within(key)]
    if len(called) == 1:
        return called[0], [state for state in found if state is not called[0]]
    names = ", ".join(state.address or "(the top level)" for state in found[:5])
    what = f"the checkpoint holds {len(found)} models: {names}"
    if key is not None and not called:
        what = f"key={key!r} names no model in the checkpoint, which holds {names}"
    one = (called or found)[-1].address
    raise CheckpointError(what, hint=f"Each has a pack of its own. Name the one to pack with key (--key): {one!r}.")


def _walk(content: Mapping[str, Any], prefixes: Prefixes, keys: tuple[str, ...]) -> Iterator[State]:
    tensors = _plainly_named(content)
    for prefix in prefixes(tensors):
        yield State(keys, tensors, prefix, content)
    if len(keys) < _MAX_NESTING:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _walk(value, prefixes, (*keys, str(key)))


def _plainly_named(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors by name, without the parts that wrappers put into names."""
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Tensor):
            name = plain_name(key)
            if name in found:
                raise CheckpointError(
                    f"the checkpoint holds {name} twice, once inside a wrapper",
                    hint="Keep the one that was trained, and save again.",
                )
            found[name] = value
    return found


def plain_name(name: str) -> str:
    """A name without the parts that wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def beside(content: Mapping[str, Any], state: State, others: list[State]) -> Iterator[str]:
    """The names of tensors that are neither the model's, nor another model's, nor what a trainer keeps for itself."""
    known = {id(other.mapping) for other in [state, *others]}
    siblings = [other.prefix for other in others if other.mapping is state.mapping]
    for name, tensor in state.tensors.items():
        if not name.startswith((state.prefix, *siblings)) and not _is_number(name, tensor):
            yield name
    yield from _within(content, (), known)


def _within(value: Any, keys: tuple[str, ...], known: set[int]) -> Iterator[str]:
    """The names of the tensors in a value, but for the tensors of the known state_dicts."""
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
    """What a container holds besides what a trainer keeps for itself."""
    if isinstance(value, Mapping):
        if not {"state", "param_groups"} <= value.keys():  # else it is an optimizer's
            yield from ((str(key), item) for key, item in value.items() if not is_trainers(str(key)))
    elif isinstance(value, list | tuple | set):
        yield from ((str(number), item) for number, item in enumerate(value))


def _is_number(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a single number that trainers note, such as a loss. A parameter is none."""
    return tensor.dim() == 0 and not isinstance(tensor, nn.Parameter) and _has(_NUMBER, name.rpartition(".")[2])


def is_trainers(key: str) -> bool:
    """Whether a key or a file's name is that of something that a trainer keeps for itself."""
    return _has(_TRAINER, key)


def _has(words: re.Pattern[str], key: str) -> bool:
    """Whether one of the words of a key, as in ``optimizer_states`` or ``lrScheduler``, is such."""
    found = re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])", key)
    return any(words.fullmatch(word.lower()) for word in found)
