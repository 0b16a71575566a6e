"""Refusing what of a trained model no pack can hold: other modules, attributes, hooks, frozen parts of adapters."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import chain

from lottapack.arch.as_built import DROPS, GRADIENTS, KEPT
from lottapack.errors import CheckpointError, LeftOutWarning
from lottapack.folders.states import LeftOut
from lottapack.format.recipe import Change

_QUANTISED = ("torch.ao.", "torchao.", "bitsandbytes.", "torch.nn.quantized", "torch.nn.qat")
_SHOWN = 5
_OF_TRAINING = {DROPS: "dropout", GRADIENTS: "how an embedding gives gradients"}
"""What the beginning of a change's words is of, of changes that only matter in training."""


def refuse_changes(changes: Mapping[str, Change], class_name: str, leaving: LeftOut, keys: Sequence[str] = ()) -> None:
    """Raise CheckpointError for the changes that may not be left out, by place.

    Args:
        changes: what is otherwise than a model of the configuration has it.
        class_name: of that model.
        leaving: what the caller leaves out by name; and takes note of it.
        keys: of the configuration that are otherwise than in scaffold().
    """
    left = leaving.rest(sorted(changes, key=lambda place: (not changes[place].now.startswith("is a "), place)))
    kept = [place for place in left if _is_kept(changes[place])]
    _warn_of_kept(kept, class_name)
    training = {what: [place for place in left if _has(changes[place], begin)] for begin, what in _OF_TRAINING.items()}
    for what, places in training.items():
        _warn_of_training(places, changes, class_name, what)
    left = [place for place in left if place not in {*kept, *chain(*training.values())}]
    if not left:
        return
    place, change = left[0], changes[left[0]]
    if change.now.startswith("holds values"):
        place += ", which no checkpoint holds,"
    now, due = _shortened(change)
    more = f" (and {len(left) - 1} more: {', '.join(left[1:_SHOWN])}{', ...' if len(left) > _SHOWN else ''})"
    raise CheckpointError(
        f"{place} {now}; in a {class_name} built from its configuration"
        + (f" (changed since: {', '.join(keys[:_SHOWN])})" if keys else "")
        + f" it {due}. A pack cannot store this change{more if left[1:] else ''}",
        hint=_hint(left[0], change),
    )


def _is_kept(change: Change) -> bool:
    return change.due == "is None" and change.now.startswith(("holds values", KEPT))


def _has(change: Change, begin: str) -> bool:
    return change.now.startswith(begin) and change.due.startswith(begin)


def _warn_of_kept(places: Sequence[str], class_name: str) -> None:
    """Warn of values that the pack leaves out. Most are caches, which the next forward pass computes again."""
    if places:
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        what = "this value" if len(places) == 1 else "these values"
        warnings.warn(
            f"{', '.join(places[:3])}{more}: the pack leaves {what} out, since a {class_name} built from its "
            "configuration has None there. If the forward pass does not compute it again, make it a persistent buffer "
            f"before scaffold(). If it is a cache, `ignore={places[0]}` says so",
            LeftOutWarning,
            stacklevel=4,
        )


def _warn_of_training(places: Sequence[str], changes: Mapping[str, Change], class_name: str, what: str) -> None:
    """Warn of what the pack does not keep since it changes no output in evaluation mode: it changes later training."""
    if places:
        place, change = places[0], changes[places[0]]
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        warnings.warn(
            f"{place}{more}: the pack does not keep {what}. The module {change.now}; in a {class_name} built from its "
            f"configuration it {change.due}. Outputs in evaluation mode are the same. To train the loaded model in the "
            f"same way, build the model with this, or set it again; `ignore={place}` says that it may differ",
            LeftOutWarning,
            stacklevel=4,
        )


def _hint(place: str, change: Change) -> str:
    ignored = f"`ignore={place}`"
    if change.now.removeprefix("is a ").startswith(_QUANTISED):
        return "Pack the model, or its checkpoint, before it is quantised; quantise what load(PACK, merge=True) gives."
    if change.now.startswith("is a peft."):
        return (
            "A pack of PEFT adapters is made from their folder: draw the base with init_backbone_(), train, "
            "peft_model.save_pretrained(FOLDER), and pack FOLDER. A scaffolded model has adapters of its own: train "
            "it without PEFT."
        )
    if change.due == "has an adapter":
        return (
            "Put the layer with the adapter back. To train this layer in full, scaffold a model with it in train "
            f"(train=[{place!r}, ...])."
        )
    if change.now.startswith("is a "):
        return (
            f"Put the layer back, with what it wraps inside, or scaffold a model that is built so; or leave the change "
            f"out with {ignored}, if its tensors are those of the layer."
        )
    if change.now == "is not what its seed gives":
        return (
            "Pack the live model, which stores what changed; or scaffold with persistent=True, so that checkpoints "
            "hold it. If a cast to a narrower dtype and back rounded it, lottapack.nn.regenerate_(model) restores it, "
            f"or pack the model in the narrower dtype. To leave the change out: {ignored}."
        )
    if change.now == "does not train":
        return (
            f"Every adapter trains when it is loaded. Unfreeze it before packing: "
            f"model.get_parameter({place!r}).requires_grad_(True); or leave that out with {ignored}."
        )
    if change.now.startswith("is tied to "):
        return (
            f"Tie parameters before scaffold(). Give it a copy of its own before packing, nn.Parameter("
            f"parameter.detach().clone()); or leave the tie out with {ignored}, and both get the same values."
        )
    if change.now.startswith("holds values"):
        return (
            "lottapack.nn.regenerate_(model) gives a scaffolded model the constructor's values. If it was rounded by a "
            "cast to a narrower dtype and back, pack the model in the narrower one: model.to(torch.bfloat16). To leave "
            f"the change out: {ignored}."
        )
    if place.rpartition(".")[2] == "forward":
        return (
            f"Remove the hook, or put it into a module of the model. If it only watches, leave it out with {ignored}."
        )
    return f"Set it back, or build the model with it; or leave the change out with {ignored}."


def _shortened(change: Change) -> tuple[str, str]:
    """The two halves of the sentence, with the names of classes alone where they tell them apart."""
    now, due = change.now, change.due
    if now.startswith("holds values"):
        return "has other values", "has those of its constructor"
    if now.startswith("is a ") and due.startswith("is a "):
        short = [text.rpartition(".")[2] for text in (now, due)]
        if short[0] != short[1]:
            return f"is a {short[0]}", f"is a {short[1]}"
    return now, due
