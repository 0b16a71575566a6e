"""bench_virtual(): compare products with weights that take no memory with those of weights in memory."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch

from lottapack import rng
from lottapack.device import resolve
from lottapack.errors import UnsupportedError
from lottapack.limits import check_memory
from lottapack.products import signs
from lottapack.products.product import Matrix, product
from lottapack.progress import Progress
from lottapack.reports.speed import machine, measure, ratio

SHAPE: Final = (16_384, 4_096)
INPUTS: Final = (1, 8, 128)
ROUNDS: Final = 9


@dataclass(frozen=True, slots=True)
class ProductSpeed:
    """The speed of one way to multiply ``inputs`` vectors by a matrix.

    ``case``: ``virtual`` (``sign1``, float32 inputs), ``blocks`` (``normal16``), or the dtype of weights in memory.
    ``weights_per_s``: the weights of the matrix once for each product; the median of the rounds. ``of_float32``,
    ``of_bfloat16``: how many times as fast as with such weights in memory, as medians of each round's ratio.
    ``weight_bytes``: the memory for weights, including the block in memory at a time.
    """

    case: str
    inputs: int
    weights_per_s: float
    of_float32: float
    of_bfloat16: float
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class VirtualReport:
    """The result of bench_virtual()."""

    device: str
    machine: str
    shape: tuple[int, int]
    rounds: int
    products: tuple[ProductSpeed, ...]


@torch.no_grad()
def bench_virtual(
    *,
    device: str | torch.device = "cpu",
    shape: tuple[int, int] = SHAPE,
    inputs: tuple[int, ...] = INPUTS,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> VirtualReport:
    """Measure matrix products with a virtual backbone, compared with float32 and bfloat16 weights in memory.

    The cases take turns.

    Args:
        device: where to measure.
        shape: (d_out, d_in), of the matrix.
        inputs: the numbers of vectors to multiply at once.
        rounds: the turns that are measured.
        progress: called with the runs done so far and in all.

    Raises UnsupportedError for a device that cannot be used or numbers below 1; LimitError; DeviceError.
    """
    target = resolve(device)
    if min(*shape, *inputs, rounds) < 1:
        raise UnsupportedError(
            f"shape={shape}, inputs={inputs}, rounds={rounds}: all must be at least 1", hint="Pass larger numbers."
        )
    check_memory("bench", 8 * shape[0] * shape[1], None, target)
    matrices = {"virtual": _matrix("sign1", shape), "blocks": _matrix("normal16", shape)}
    weights = {"float32": torch.empty(shape, dtype=torch.float32, device=target)}
    rng.fill_(weights["float32"], matrices["virtual"].source)
    weights["bfloat16"] = weights["float32"].bfloat16()
    products: list[ProductSpeed] = []
    for number, n in enumerate(inputs):
        x = torch.randn(n, shape[1], dtype=torch.float32, device=target)
        low = x.bfloat16()
        cases: dict[str, tuple[int, Callable[[], object]]] = {
            "float32": (n, partial(_multiply, weights["float32"], x)),
            "bfloat16": (n, partial(_multiply, weights["bfloat16"], low)),
            **{name: (n, partial(product, x, matrix)) for name, matrix in matrices.items()},
        }
        seconds = measure(cases, rounds, device=target, progress=progress, part=(number, len(inputs)))
        for name, each in seconds.items():
            held = weights[name].nbytes if name in weights else _held(matrices[name], x)
            speed = shape[0] * shape[1] / statistics.median(each)
            of_float32, of_bfloat16 = (ratio(each, seconds[other]) for other in ("float32", "bfloat16"))
            products.append(ProductSpeed(name, n, speed, of_float32, of_bfloat16, held))
    return VirtualReport(str(target), machine(target), shape, rounds, tuple(products))


def _matrix(table: str, shape: tuple[int, int]) -> Matrix:
    source = rng.Source(42, "bench", rng.builtin(table), rng.binary32(shape[1] ** -0.5), "float32")
    return Matrix(source, shape)


def _held(matrix: Matrix, x: torch.Tensor) -> int:
    direct = signs.fits(x, matrix.source, matrix.shape, False, None)
    return 0 if direct else 4 * matrix.shape[1] * matrix.height(x, None)


def _multiply(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.mv(weight, x[0]) if len(x) == 1 else x @ weight.t()
