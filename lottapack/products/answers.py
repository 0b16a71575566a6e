"""The known-answer test of the kernels of products, before their first use: a wrong kernel is never used.

Weights of 1 and -1 and inputs that are small integers have products that binary32 holds exactly, in any order of
summation. So float64 gives the answers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lottapack.errors import DeviceError
from lottapack.rng import Source, builtin, fill_

SHAPE = (70, 1100)
"""Several vectors of rows with some left over, and more than two parts of a sum, the last one not whole."""
_INPUTS = (1, 2, 7)
"""The numbers of inputs: those that are summed together, and a sum of all of these."""

Product = Callable[[Tensor, Source, tuple[int, int], bool], Tensor]
"""``product(x, source, shape, transposed)``, with weights of 1 and -1."""


def ensure(kernels: str, product: Product, dtype: torch.dtype = torch.float32) -> None:
    """Compare products, plain and transposed, with the exact ones. Raises DeviceError."""
    source = Source(42, "selfcheck", builtin("sign1"), 1.0, "float32")
    weight = fill_(torch.empty(SHAPE, device="cpu", dtype=torch.float32), source).double()
    for transposed, matrix in ((False, weight.t()), (True, weight)):
        for inputs in _INPUTS:
            count = inputs * matrix.shape[0]
            numbers = torch.arange(count, dtype=torch.int64, device="cpu")
            x = (numbers * 37 % 61 - 30).view(inputs, -1).to(dtype)
            if not torch.equal(product(x, source, SHAPE, transposed).double(), x.double() @ matrix):
                way = "transposed product" if transposed else "product"
                raise DeviceError(
                    f"the CPU kernels of {kernels} compute a wrong {way} of {inputs} inputs",
                    hint="Update numba and llvmlite, or uninstall numba: torch then multiplies. If the error stays, "
                    "report it with the name of the processor.",
                )
