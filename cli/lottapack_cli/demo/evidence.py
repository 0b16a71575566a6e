"""What two processes compare: hashes of all weights, and the results on the test images."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import torch
from torch import Tensor, nn

from lottapack_cli.demo.data import Digits


class Evidence(msgspec.Struct, frozen=True):
    """``weights``: SHA-256 of each tensor; ``values``: count of its numbers; ``logits``: SHA-256 of the logits."""

    weights: dict[str, str]
    values: int
    correct: int
    total: int
    logits: str


def gather(model: nn.Module, test: Digits) -> Evidence:
    """Hash every parameter and buffer, including the generated backbone, and classify the test images."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    del tensors["lottapack_recipe"]
    with torch.inference_mode(), one_thread():
        logits = model(test.images)
    return Evidence(
        weights={name: _sha256(tensor) for name, tensor in sorted(tensors.items())},
        values=sum(tensor.numel() for tensor in tensors.values()),
        correct=int((logits.argmax(1) == test.labels).sum()),
        total=len(test.labels),
        logits=_sha256(logits),
    )


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().data).hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: a model this small gains nothing from more, and each sum has a fixed order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
