"""Products with sign1 weights have the same bits for all vector units: kernels are compiled for several."""

import sys
from pathlib import Path

import equality_cases
import pytest

from lottapack.rng import backends

PROGRAM = """
import hashlib, json, sys, torch
from lottapack import rng
from lottapack.products import signs
from lottapack.rng.kernels.machine import processor
if len(sys.argv) > 1:
    from equality_cases import compile_into
    compile_into(sys.argv[1])
found = []
for rows, columns in ((37, 1000), (600, 33)):
    source = rng.Source(5, "layers.0.weight", rng.builtin("sign1"), 1.0, "float32")
    for transposed in (False, True):
        x = torch.randn(7, rows if transposed else columns, generator=torch.Generator().manual_seed(1))
        for inputs in (1, 2, 7):
            y = signs.product(x[:inputs], source, 0.3, (rows, columns), transposed)
            found.append(hashlib.sha256(y.numpy()).hexdigest())
print(json.dumps([processor().name, processor().features, found]))
"""


def run(environment: dict[str, str], *folder: Path) -> list[object]:
    return equality_cases.printed(["-c", PROGRAM, *folder], environment)


@pytest.fixture(scope="module")
def here() -> object:
    return run({})[2]


@pytest.mark.slow
@pytest.mark.skipif(not backends.numba_works(), reason="no numba")
@pytest.mark.parametrize("features", equality_cases.other_units("+avx,+avx2,+fma", []))
def test_the_kernels_for_another_processor_give_the_same_bits(features, here, tmp_path):
    if features and sys.platform != "linux":
        pytest.skip("the machine may have no such vectors")
    there = run({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}, tmp_path)
    assert there == ["generic", features, here]
    assert any(tmp_path.rglob("transposed-*.o"))
