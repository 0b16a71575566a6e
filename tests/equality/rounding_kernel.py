"""A kernel that rounds any number to float16."""

import triton
import triton.language as tl

from lottapack.rng.gpu_kernels import _float16

SIZE = 4096
_SIZE = tl.constexpr(SIZE)


@triton.jit
def to_float16(values, bits):
    place = tl.program_id(0) * _SIZE + tl.arange(0, _SIZE)
    tl.store(bits + place, _float16(tl.load(values + place).to(tl.uint32, bitcast=True)))
