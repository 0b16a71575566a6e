"""The declared kernels of products. It does not import torch."""

from typing import Final

from lottapack.products import layout
from lottapack.rng.kernels.kernel import Kernel
from lottapack.rng.stream import WORDS

_SIGNS, _BITS, _DOTS = (f"{__package__}.{module}" for module in ("kernels", "sign_bits", "dots"))

PRODUCT = Kernel(
    _SIGNS,
    "product",
    "=f32[] f32[] =u32[] u64 u64 u64 u64 u64 f32 u64 u64 u64 u64",
    lambda out, x, work, width, held, columns, begin, end, *_: (
        x.size * width == out.size * columns
        and begin <= end <= width
        and held == layout.bits_around(columns)
        and work.size >= layout.product_space(end - begin, columns)
    ),
)
SIGNS = Kernel(
    _BITS,
    "signs",
    "=u32[] u64 u64 u64 u64 u64",
    lambda bits, *_: bits.size % WORDS == 0,
)
TRANSPOSED = Kernel(
    _SIGNS,
    "transposed",
    "=f32[] f32[] =u32[] u32[] u64 u64 u64 u64 u64 u64 u64 u64 u64 u64",
    lambda out, x, work, bits, width, stride, skip, rows, columns, top, bottom, begin, end, _: (
        top <= bottom <= out.size // width
        and begin <= end <= width // layout.CHUNK
        and width == -(-columns // layout.CHUNK) * layout.CHUNK
        and rows <= stride
        and (bottom == top or x.size >= (bottom - 1) * stride + rows)
        and work.size >= layout.transposed_space(end - begin)
        and bits.size >= layout.bits_space(skip, rows, columns)
    ),
)
ORDERED = Kernel(
    _SIGNS,
    "ordered",
    "=f32[] f32[] u64 u64 u64 u64 f32",
    lambda out, sums, width, columns, begin, end, _: (
        columns > 0
        and out.size % columns == 0
        and begin <= end <= out.size // columns
        and width == -(-columns // layout.CHUNK) * layout.CHUNK
        and sums.size == out.size // columns * width
    ),
)
DOTS = Kernel(
    _DOTS,
    "dots",
    "=f32[] u16[] u16[] =u32[] u64 u64 u64 u64 u64 u64",
    lambda out, x, block, work, start, stride, columns, begin, end, _: (
        begin <= end <= columns
        and out.size * stride == x.size * columns
        and block.size % columns == 0
        and start + block.size // columns <= stride
        and work.size >= layout.dots_space(out.size // columns)
    ),
)
"""Needs a processor with dot products of bfloat16."""

SIGN_KERNELS: Final = PRODUCT, SIGNS, TRANSPOSED, ORDERED
