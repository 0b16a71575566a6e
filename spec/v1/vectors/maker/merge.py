"""The merged weight: merge.md."""

from typing import Any

import numpy as np

from .tables import F32
from .values import Bits, from_bits, hex_digits, to_bits

Matrix = tuple[int, int]
VERA = ("lambda_b", "lambda_d")
EVERY = (*VERA, "scale_in", "scale_out")
DIAGONAL: list[tuple[str, list[int], dict[str, Any]]] = [
    ("", [3, 4], {"learned_beta": False}),
    (", beta", [3, 4], {}),
    (", fan_in_fan_out", [3, 4], {"fan_in_fan_out": True, "learned_beta": False}),
    (", a convolution in bfloat16", [3, 2, 2, 2], {"dtype": "bfloat16", "learned_beta": False}),
    (", a batch", [2, 3, 4], {"batch_dims": 1, "learned_beta": False}),
]
"""Diagonal adapters: what the name of the case adds, the shape, and the options."""


def sides(shape: list[int], fan_in_fan_out: bool, batch_dims: int = 0) -> Matrix:
    """``(d_out, d_in)`` of each matrix of an adapted weight: descriptor.md, section 4."""
    first, *others = shape[batch_dims:]
    rest = int(np.prod(others, dtype=np.int64))
    return (rest, first) if fan_in_fan_out else (first, rest)


def scaling_factor(scaling: str, alpha: float, rank: int) -> np.float32:
    """``s``: computed in binary64, then rounded to binary32."""
    if rank == 0:
        return np.float32(1)
    return np.float32(alpha / (rank if scaling == "lora" else np.sqrt(np.float64(rank))))


def merge(
    weight: Bits,
    dtype: str,
    fan_in_fan_out: bool,
    s: np.float32,
    adapter: dict[str, F32],
    batch_dims: int = 0,
) -> Bits:
    """The merged weight's bits; ``weight`` in its recorded shape, the tensors of ``adapter`` by their last names.

    Of a weight that is a batch of matrices the factors have the batch's dimensions too, except a shared one.
    NumPy rounds every product and sum of arrays by itself, so the order of the steps is all there is to keep.
    """
    if batch_dims:
        own_dims = {part: 2 if part in ("lora_A", "lora_B") else 1 for part in adapter}
        made = []
        for number, w in enumerate(weight):
            own = {part: held if held.ndim == own_dims[part] else held[number] for part, held in adapter.items()}
            made.append(merge(w, dtype, fan_in_fan_out, s, own, batch_dims - 1))
        return np.stack(made)
    w = from_bits(weight, dtype)
    d_out, d_in = sides(list(w.shape), fan_in_fan_out)
    merged = w.reshape(d_in, d_out).T if fan_in_fan_out else w.reshape(d_out, d_in)
    with np.errstate(all="ignore"):
        if "scale_in" in adapter:
            merged = merged * adapter["scale_in"][None, :]
        if "scale_out" in adapter:
            merged = adapter["scale_out"][:, None] * merged
        if "beta" in adapter:
            merged = adapter["beta"][0] * merged
        if "lora_A" in adapter:
            merged = merged + s * low_rank(adapter)
        if "magnitude" in adapter:
            merged = factors(merged, adapter["magnitude"])[:, None] * merged
    plain = merged.T if fan_in_fan_out else merged
    return to_bits(np.ascontiguousarray(plain).reshape(w.shape), dtype)


def low_rank(adapter: dict[str, F32]) -> F32:
    """``d`` of merge.md, step 3."""
    a, b = adapter["lora_A"], adapter["lora_B"]
    if "lambda_d" in adapter:
        a = adapter["lambda_d"][:, None] * a
        b = adapter["lambda_b"][:, None] * b
    d = b[:, 0, None] * a[None, 0, :]
    for r in range(1, len(a)):
        d = d + b[:, r, None] * a[None, r, :]
    return d


def factors(merged: F32, magnitude: F32) -> F32:
    """What each output's row is multiplied by to have the length ``magnitude``: merge.md, step 4."""
    total = np.zeros(len(merged))
    for n in range(merged.shape[1]):
        wide = merged[:, n].astype(np.float64)
        total = total + wide * wide
    quotient = np.divide(magnitude.astype(np.float64), np.sqrt(total), out=np.zeros_like(total), where=total != 0)
    return quotient.astype(np.float32)


def noise(key: int, *shape: int) -> F32:
    """Numbers with full significands and both signs, so that every rounding shows; no two keys alike."""
    n = np.arange(int(np.prod(shape)), dtype=np.uint64) + 1000 * key + 1
    mixed = (n * np.uint64(0x9E3779B97F4A7C15)) >> 39  # 25 bits
    return (np.float32(2**-23) * (mixed.astype(np.int64) - 2**24)).astype(np.float32).reshape(shape)


def case(
    name: str,
    shape: list[int],
    dtype: str = "float32",
    adapter_dtype: str = "float32",
    rank: int = 2,
    alpha: float = 8.0,
    scaling: str = "lora",
    fan_in_fan_out: bool = False,
    learned_beta: bool = True,
    size: float = 1.0,
    with_magnitude: bool = False,
    zero_row: bool = False,
    batch_dims: int = 0,
    shared_factor: str | None = None,
    vectors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """One case of ``merge.json``; ``size`` scales all the numbers that go in."""
    d_out, d_in = sides(shape, fan_in_fan_out, batch_dims)
    batch = shape[:batch_dims]
    wide = np.float32(size) * noise(0, *shape)
    if zero_row:
        wide[0] = 0
    weight = to_bits(wide, dtype)
    lengths = {"lambda_b": d_out, "lambda_d": rank, "scale_in": d_in, "scale_out": d_out}
    batch_a, batch_b = ([] if shared_factor == factor else batch for factor in ("lora_A", "lora_B"))
    numbers: dict[str, F32 | None] = {
        "lora_A": noise(1, *batch_a, rank, d_in) if rank else None,
        "lora_B": np.float32(size) * noise(2, *batch_b, d_out, rank) if rank else None,
        "beta": noise(3, 1) if learned_beta else None,
        "magnitude": np.float32(size) * noise(4, *batch, d_out) if with_magnitude else None,
        **{
            part: noise(5 + key, *batch, length) if part in vectors else None
            for key, (part, length) in enumerate(lengths.items())
        },
    }
    if zero_row and numbers["lora_B"] is not None:
        numbers["lora_B"][0] = 0
    held = {part: None if wide is None else to_bits(wide, adapter_dtype) for part, wide in numbers.items()}
    adapter = {part: from_bits(bits, adapter_dtype) for part, bits in held.items() if bits is not None}
    s = scaling_factor(scaling, alpha, rank)
    merged = merge(weight, dtype, fan_in_fan_out, s, adapter, batch_dims)
    return {
        "name": name,
        "shape": shape,
        "dtype": dtype,
        "adapter_dtype": adapter_dtype,
        "fan_in_fan_out": fan_in_fan_out,
        "batch_dims": batch_dims,
        "shared_factor": shared_factor,
        "rank": rank,
        "alpha": alpha,
        "scaling": scaling,
        "weight": hex_digits(weight),
        **{part: None if bits is None else hex_digits(bits) for part, bits in held.items()},
        "merged": hex_digits(merged),
    }


def known_answers() -> dict[str, Any]:
    """``merge.json``."""
    return {
        "cases": [
            case("lora", [3, 4]),
            case("rslora, an irrational root", [3, 4], rank=3, scaling="rslora"),
            case("rslora, alpha that is no binary32 number", [3, 4], alpha=0.1, scaling="rslora"),
            case("lora, a quotient that is no binary32 number", [3, 4], rank=3, alpha=0.1),
            case("beta fixed at 1", [3, 4], learned_beta=False),
            case("rank 1: no sum", [3, 4], rank=1),
            case("rank 4: the order of the sum", [4, 5], rank=4),
            case("one row", [1, 6], rank=1),
            case("one column", [6, 1], rank=1),
            case("fan_in_fan_out: the transpose is merged", [3, 4], fan_in_fan_out=True),
            case(
                "fan_in_fan_out, rslora, beta fixed", [5, 2], scaling="rslora", fan_in_fan_out=True, learned_beta=False
            ),
            case("a convolution: the kernel as a matrix", [3, 2, 2, 2], rank=3),
            case("fan_in_fan_out, more dimensions: a transposed convolution", [3, 2, 2, 2], fan_in_fan_out=True),
            case("a batch of matrices", [3, 4, 5], batch_dims=1),
            case(
                "a batch of matrices stored as (in, out), rslora",
                [3, 4, 5],
                fan_in_fan_out=True,
                batch_dims=1,
                scaling="rslora",
            ),
            case(
                "a batch of two dimensions, bfloat16, beta fixed",
                [2, 2, 3, 4],
                dtype="bfloat16",
                batch_dims=2,
                learned_beta=False,
            ),
            case("a batch of kernels", [2, 3, 2, 2], batch_dims=1),
            case("a batch of one", [1, 3, 4], batch_dims=1, rank=3),
            case("a batch with one lora_A", [3, 4, 5], batch_dims=1, shared_factor="lora_A"),
            case("a batch with one lora_B", [3, 4, 5], batch_dims=1, shared_factor="lora_B"),
            case(
                "a batch stored as (in, out) with one lora_A, bfloat16",
                [3, 4, 5],
                dtype="bfloat16",
                fan_in_fan_out=True,
                batch_dims=1,
                shared_factor="lora_A",
            ),
            case(
                "a batch of two dimensions with one lora_B, a magnitude",
                [2, 2, 3, 4],
                batch_dims=2,
                shared_factor="lora_B",
                with_magnitude=True,
            ),
            case("bfloat16", [3, 4], dtype="bfloat16"),
            case("bfloat16, adapter too", [3, 4], dtype="bfloat16", adapter_dtype="bfloat16"),
            case("bfloat16, fan_in_fan_out", [3, 4], dtype="bfloat16", adapter_dtype="float16", fan_in_fan_out=True),
            case("float16", [3, 4], dtype="float16"),
            case("float16, adapter too", [3, 4], dtype="float16", adapter_dtype="float16"),
            case("float16, subnormal results", [3, 4], dtype="float16", size=2.0**-20),
            case("float16, results beyond its range are infinite", [3, 4], dtype="float16", size=2.0**14),
            case("float32, subnormal inputs and results", [3, 4], size=2.0**-130),
            case("bfloat16, subnormal inputs and results", [3, 4], dtype="bfloat16", size=2.0**-130),
            case("a magnitude", [3, 4], with_magnitude=True),
            case("a magnitude, rslora, beta fixed", [4, 9], scaling="rslora", learned_beta=False, with_magnitude=True),
            case("a magnitude, fan_in_fan_out", [3, 4], fan_in_fan_out=True, with_magnitude=True),
            case("a magnitude, a transposed convolution", [3, 2, 2, 2], fan_in_fan_out=True, with_magnitude=True),
            case("a magnitude, a batch of matrices", [2, 3, 4], batch_dims=1, with_magnitude=True),
            case(
                "a magnitude, a batch stored as (in, out)",
                [2, 3, 4],
                fan_in_fan_out=True,
                batch_dims=1,
                with_magnitude=True,
            ),
            case("a magnitude, a convolution", [3, 2, 2, 2], with_magnitude=True),
            case("a magnitude, bfloat16", [3, 4], dtype="bfloat16", adapter_dtype="bfloat16", with_magnitude=True),
            case("a magnitude, a row of length 0", [3, 4], with_magnitude=True, zero_row=True),
            case("a magnitude, squares beyond binary32", [3, 4], with_magnitude=True, size=2.0**80),
            case("a magnitude, subnormal inputs", [3, 4], with_magnitude=True, size=2.0**-130),
            case("VeRA", [3, 4], vectors=VERA, learned_beta=False),
            case("VeRA, a rank beyond the sides, beta", [2, 3], rank=5, alpha=5.0, vectors=VERA),
            case("VeRA, fan_in_fan_out, rslora", [3, 4], fan_in_fan_out=True, scaling="rslora", vectors=VERA),
            case("VeRA, a batch of matrices", [2, 3, 4], batch_dims=1, vectors=VERA),
            case("VeRA, bfloat16", [3, 4], dtype="bfloat16", adapter_dtype="bfloat16", vectors=VERA),
            case("VeRA, a magnitude", [3, 4], with_magnitude=True, vectors=VERA),
            case("VeRA, products that underflow", [3, 4], size=2.0**-130, vectors=VERA),
            *[
                case(f"a diagonal adapter, {' and '.join(vectors)}{kind}", shape, rank=0, vectors=vectors, **options)
                for vectors in (("scale_in",), ("scale_out",), ("scale_in", "scale_out"))
                for kind, shape, options in DIAGONAL
            ],
            case("a rank of 0, beta alone", [3, 4], rank=0),
            case("scale_in and scale_out with factors", [3, 4], vectors=("scale_in", "scale_out")),
            case(
                "every vector", [2, 3, 4], batch_dims=1, with_magnitude=True, vectors=(*VERA, "scale_in", "scale_out")
            ),
            case("float32, products that underflow", [3, 4], alpha=2.0**-140, learned_beta=False),
            *[
                case(f"{dtype}, infinite in binary32", [3, 4], dtype=dtype, rank=1, alpha=2.0**127, learned_beta=False)
                for dtype in ("float32", "bfloat16", "float16")
            ],
            case("an infinite float16 in a factor", [3, 4], adapter_dtype="float16", rank=1, size=2.0**16),
        ]
    }
