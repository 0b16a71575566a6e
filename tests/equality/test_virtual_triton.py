"""Triton products with sign1 weights made in registers: under the interpreter, and compiled for GPUs."""

from collections.abc import Iterator

import interpreted
import interpreted_virtual
import numpy as np
import pytest
import torch
from extent import crossed

import lottapack
from lottapack.products import product as products
from lottapack.products.op import generated_product
from lottapack.products.weight_key import weight_key

triton = pytest.importorskip("triton")

SEED, NAME, SCALE = 2**63 + 42, "layers.0.weight", 0.125
DTYPES = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="module")
def interpreter() -> Iterator[interpreted.Interpreter]:
    with interpreted.interpreter() as found:
        yield found


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def weight(shape: tuple[int, int]) -> np.ndarray:
    return lottapack.draw(NAME, shape, seed=SEED, distribution="sign1", scale=SCALE).numpy().astype(np.float64)


CASES = {
    "one vector": (1, (20, 1024), False),
    "a row that is no power of two": (2, (37, 768), False),
    "rows of many blocks": (1, (3, 4096), False),
    "a batch": (5, (70, 1024), False),
    "a large batch": (67, (33, 2048), False),
    "a gradient": (3, (70, 1024), True),
    "the gradient of a large batch": (67, (40, 3072), True),
}


@pytest.mark.parametrize(("case", "dtype"), crossed([*CASES], DTYPES))
def test_products_are_those_with_the_weights(interpreter, case, dtype):
    n, shape, transposed = CASES[case]
    given = torch.from_numpy(drawn(n, shape[0] if transposed else shape[1])).to(getattr(torch, dtype))
    found = interpreter(
        interpreted_virtual.multiplied, given.float().numpy(), dtype, SEED, NAME, SCALE, shape, transposed
    )
    w = weight(shape)
    exact = given.double().numpy()
    due = exact @ (w if transposed else w.T)
    # Of a sum of k terms in binary32, in any order (Higham 2002, 4.2), and of the output's rounding.
    bound = (given.shape[1] + 1) * 2.0**-24 * np.abs(exact).sum(1, keepdims=True) * SCALE
    rounding = torch.finfo(given.dtype).eps
    assert (np.abs(found - due) <= 1.01 * bound + rounding * np.abs(due)).all()


KERNELS = {
    "vector": {"rows": "i32", "RUNS": 4, "ROWS": 8},
    "batch": {
        "items": "i32",
        "rows": "i32",
        "RUNS": 4,
        "ITEMS": 16,
        "ROWS": 64,
        "STEP": 16,
        "PRECISION": "ieee",
        "WIDE": False,
    },
    "transposed": {
        "items": "i32",
        "rows": "i32",
        "RUNS": 4,
        "ITEMS": 64,
        "ROWS": 64,
        "STEP": 16,
        "PRECISION": "ieee",
        "WIDE": False,
    },
}


@pytest.mark.parametrize(("kernel", "pointer"), crossed([*KERNELS], ["*fp32", "*bf16", "*fp16"]))
def test_it_compiles_for_a_gpu(kernel, pointer, tmp_path, monkeypatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lottapack.products import gpu_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    given = {"out": pointer, "x": pointer, "key": "*i64", "scale": "fp32"}
    constants = {name: value for name, value in KERNELS[kernel].items() if name.isupper()}
    types = {name: value for name, value in KERNELS[kernel].items() if not name.isupper()}
    source = ASTSource(getattr(gpu_kernels, kernel), given | types | dict.fromkeys(constants, "constexpr"), constants)
    assembly = triton.compile(source, GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]
    assert "atom" not in assembly  # each output is summed by one program


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_multiplies_as_the_cpu_does(case, dtype):
    n, shape, transposed = CASES[case]
    x = torch.from_numpy(drawn(n, shape[0] if transposed else shape[1])).to(getattr(torch, dtype))
    arguments = (None, weight_key(products_source(dtype), shape), transposed, 0)
    found = generated_product(x.cuda(), *arguments).cpu().double()
    assert products._on_gpu(x.cuda(), products.Matrix(products_source(dtype), shape), transposed)
    due = generated_product(x.double(), *arguments)
    eps = torch.finfo(x.dtype).eps
    assert torch.allclose(found, due, rtol=eps, atol=float(due.abs().max()) * max(eps, 1e-6))


def products_source(dtype: str) -> "lottapack.rng.Source":
    return lottapack.rng.Source(SEED, NAME, lottapack.rng.builtin("sign1"), SCALE, dtype)
