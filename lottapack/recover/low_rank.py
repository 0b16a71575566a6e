"""Find ``beta * W + B A`` in a merged weight, given the backbone W."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lottapack.weights.merge import merged

_SMALL = 128
"""Up to this size of both sides, a full decomposition is fast."""
_MORE = 8
_STEPS = 30


@dataclass(frozen=True, slots=True)
class Fit:
    """The result of a fit. ``error``: the rebuilt weight's, relative to the merged one (Frobenius norms).

    ``lora_A``: shape (rank, d_in). ``lora_B``: (d_out, rank). Both are float32 and have the scaling 1.
    """

    beta: float
    rank: int
    error: float
    lora_A: Tensor  # noqa: N815
    lora_B: Tensor  # noqa: N815


def recover(given: Tensor, drawn: Tensor, *, max_rank: int, tolerance: float, fan_in_fan_out: bool) -> Fit | None:
    """Return the fit of the smallest rank that is within the tolerance, or None.

    Also returns None for a weight that is not finite, and for one that a low-rank part alone explains: that would match
    every backbone, with a beta near 0.

    For each rank, beta and the low-rank part are the joint least-squares fit: the part is a truncated singular value
    decomposition of ``given - beta * drawn``, and beta makes the remainder orthogonal to W. (A least-squares fit of
    beta alone would mistake some of the low-rank part for W.)

    Args:
        given: the merged weight in its recorded shape.
        drawn: the backbone in its recorded dtype and the same shape.
        max_rank: the largest rank to try. Ranks whose factors are not smaller than the weight are skipped.
        tolerance: the largest error, as in Fit.
        fan_in_fan_out: whether the weight is stored as (d_in, d_out).
    """
    target, backbone = (_matrix(tensor, fan_in_fan_out) for tensor in (given, drawn))
    d_out, d_in = target.shape
    size = float(target.norm())
    most = min(max_rank, min(d_out, d_in), (target.numel() - 1) // (d_out + d_in))
    if most < 1 or not 0 < size < math.inf or not bool(backbone.any()):
        return None
    beta = _beta(target, backbone, most)
    _, values, _ = _svd(target - beta * backbone, most)
    tails = _tails(target - beta * backbone, values)
    # The tails are lower bounds except for rounding; the rebuilt weight, rounded as in a pack, decides.
    first = next((rank for rank, tail in enumerate(tails.tolist(), 1) if tail <= 1.01 * tolerance * size), most + 1)
    for rank in range(first, most + 1):
        fit = _fit(drawn, target, backbone, rank, fan_in_fan_out)
        if fit.error <= tolerance:
            alone = _tails(target, _svd(target, rank)[1])[-1]
            return None if float(alone) <= 1.01 * tolerance * size else fit
    return None


def _tails(matrix: Tensor, values: Tensor) -> Tensor:
    """Return what the first 1, 2, ... singular values leave over (Frobenius norms)."""
    energy = float(matrix.square().sum())
    return (energy - values.square().cumsum(0)).clamp(min=0).sqrt()


def _matrix(weight: Tensor, fan_in_fan_out: bool) -> Tensor:
    """Return a weight as (d_out, d_in), in binary64."""
    wide = weight.detach().cpu().double()
    return wide.t().contiguous() if fan_in_fan_out else wide.reshape(wide.shape[0], -1)


def _fit(drawn: Tensor, target: Tensor, backbone: Tensor, rank: int, fan_in_fan_out: bool) -> Fit:
    beta = _beta(target, backbone, rank)
    left, values, right = _svd(target - beta * backbone, rank)
    root = values.sqrt()
    lora_A, lora_B = (root[:, None] * right).float(), (left * root).float()  # noqa: N806
    rebuilt = merged(
        drawn.detach().cpu(), lora_A, lora_B, _number(beta).view(1), scaling=1.0, fan_in_fan_out=fan_in_fan_out
    )
    error = float((_matrix(rebuilt, fan_in_fan_out) - target).norm() / target.norm())
    return Fit(float(_number(beta)), rank, error, lora_A, lora_B)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device="cpu")


def _beta(target: Tensor, backbone: Tensor, rank: int) -> float:
    """Return the beta for which the remainder of a low-rank part is orthogonal to W, by the secant method."""
    energy = float(backbone.square().sum())

    def slope(beta: float) -> float:
        rest = target - beta * backbone
        left, values, right = _svd(rest, rank)
        return float(((rest - (left * values) @ right) * backbone).sum()) / energy

    before = float((target * backbone).sum()) / energy
    slope_before = slope(before)
    beta = before + slope_before
    for _ in range(_STEPS):
        if abs(beta - before) <= 1e-12 * abs(beta):
            break
        slope_now = slope(beta)
        if abs(slope_now) >= abs(slope_before):  # only rounding is left
            return before
        step = -slope_now * (beta - before) / (slope_now - slope_before)
        before, slope_before = beta, slope_now
        beta += step
    return beta


def _svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``rank`` largest singular values with their vectors: (d_out, rank), (rank,), (rank, d_in)."""
    if min(matrix.shape) <= max(_SMALL, rank + _MORE):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, :rank], values[:rank], right[:rank]
    # A random projection and some power steps (Halko, Martinsson and Tropp, 2011), with its own random generator.
    draws = torch.Generator("cpu").manual_seed(0)
    size = matrix.shape[1], rank + _MORE
    basis = matrix @ torch.randn(size, generator=draws, dtype=matrix.dtype, device=matrix.device)
    for _ in range(4):
        basis = torch.linalg.qr(basis).Q
        basis = matrix @ torch.linalg.qr(matrix.t() @ basis).Q
    basis = torch.linalg.qr(basis).Q
    left, values, right = torch.linalg.svd(basis.t() @ matrix, full_matrices=False)
    return (basis @ left)[:, :rank], values[:rank], right[:rank]
