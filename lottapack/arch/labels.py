"""Labels in configurations of transformers: those that no key of a pack may be are told by ``id2label`` alone."""

import re
from typing import Any

from lottapack.format.rules import is_refused_key

LABELS, NUMBERS = "id2label", "label2id"
_NUMBER = re.compile("[0-9]{1,18}")


def numbers_of(labels: Any) -> dict[str, int]:
    """Return the number of each label of an ``id2label``, in a stranger's as far as they are numbers.

    Of several numbers it is the greatest: a pack sorts the keys as texts, so that their order tells nothing.
    """
    items = labels.items() if isinstance(labels, dict) else ()
    pairs = [(int(one), label) for one, label in items if isinstance(label, str) and _NUMBER.fullmatch(str(one))]
    return {label: number for number, label in sorted(pairs)}


def with_labels(value: Any) -> Any:
    """Return a configuration from a pack whose ``label2id`` also has the labels that no key in a pack may be."""
    if isinstance(value, list):
        return [with_labels(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: with_labels(item) for key, item in value.items()}
    numbers = made.get(NUMBERS)
    if isinstance(numbers, dict):
        told = numbers_of(made.get(LABELS))
        made[NUMBERS] = {**numbers, **{label: number for label, number in told.items() if is_refused_key(label)}}
    return made
