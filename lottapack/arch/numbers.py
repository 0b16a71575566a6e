"""Limit the numbers of a configuration, and the texts in it, before its library sees either.

A library turns numbers into lists and loops, some of which cannot be stopped (``[x] * n``). Models only need large
numbers for the sizes of their tensors, which the parameter table declares too (decision 0034).
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from lottapack.arch.budget import Budget
from lottapack.errors import ArchitectureError, LimitError

_MOST: Final = 2**21
"""The largest token ids, lengths of audio and sizes of images."""
_LABELS: Final = 100_000
_POSITIONS: Final = 2**25
_CALLS: Final = 2**32
_IS_LABELS: Final = re.compile(r"num_(labels|classes)")
_IS_POSITIONS: Final = re.compile(r"position|length|(^|_)(seq|ctx|context)(_|$)")
_IS_SIZE: Final = re.compile(r"vocab|size|dim|embed|channels|features|hidden|width|labels|classes|base|buckets|entit")
_IS_COUNT: Final = re.compile(r"layer|depth|block|stage|head")
_SQUARES: Final = "use_tpu_fourier_optimizations"
_SQUARED: Final = ("hidden_size", "tpu_short_seq_length")
_SIDE: Final = 4096
"""The largest size of the matrices that an FNet computes with NumPy, whose memory nothing else limits."""
_IS_REAL: Final = re.compile(r"theta|(^|_)(base|seed)$|value|_val$|clip")
"""Keys of real numbers and seeds, which may also be written as integers."""
_SCHEME: Final = re.compile(r"(hf[-_]hub|local[-_]dir|https?|file|s3|gs|ftp):")
_WEIGHTS: Final = re.compile(r"\.(safetensors|gguf|pt2?|pth|ckpt|bin|pkl|pickle|npz|npy|onnx|h5|msgpack)$")


def check_numbers(label: str, config: Any, budget: Budget, *, calls: bool = False) -> None:
    """Raise LimitError for an integer that is neither small nor a dimension that the table declares.

    ``calls``: whether the numbers are arguments of the caller's own classes, so that their meaning is unknown.
    """
    values = list(_values("config", "", config))
    squares = any(key == _SQUARES and value for _, key, value in values)
    for where, key, value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            most = max(_CALLS, budget.largest) if calls else _most(key, value, budget)
            if squares and key in _SQUARED:
                most = _SIDE
            if abs(value) > most:
                raise LimitError(
                    f"{label}: {where} is {value:,}, but at most {most:,} is accepted there",
                    hint="No declared tensor is that large. Do not use this pack; if it is your own model, check this "
                    "number.",
                )


def check_texts(label: str, config: Any) -> None:
    """Raise ArchitectureError for a text that makes timm load a model from a folder or the network, or names weights.

    This check is needed because not every loader of weights can be watched: that of safetensors cannot.
    """
    for where, _, value in _values("config", "", config):
        if isinstance(value, str):
            plain = re.sub(r"[\x00-\x20]", "", value).lower()  # URL parsers skip these characters
            if _SCHEME.match(plain) or _WEIGHTS.search(plain):
                raise ArchitectureError(
                    f"{label}: {where} is {value[:100]!r}, which names something to load",
                    hint="Do not use the pack: packs contain their own weights.",
                )


def _most(key: str, value: int, budget: Budget) -> int:
    if _IS_REAL.search(key):
        return abs(value)
    least = _LABELS if _IS_LABELS.search(key) else _POSITIONS if _IS_POSITIONS.search(key) else _MOST
    size = _IS_SIZE.search(key) and not _IS_COUNT.search(key)
    justified = _CALLS if budget.tensors is None else budget.largest
    return max(least, justified) if size else least


def _values(where: str, key: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield every value that is not a container, with its location and the innermost key above it."""
    pending = [(where, key, value)]
    while pending:
        where, key, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{where}.{name}", str(name), item) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            if _IS_COUNT.search(key):  # the model has as many layers as their sum
                yield f"the sum of {where}", key, sum(item for item in value if isinstance(item, int))
            pending += [(f"{where}[{index}]", key, item) for index, item in enumerate(value)]
        else:
            yield where, key, value
