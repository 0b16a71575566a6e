"""The bits do not depend on the vector units in use: torch's plainest kernels and numba's plainest code agree."""

import platform
import sys
from pathlib import Path

import equality_cases
import pytest

PROGRAM = Path(equality_cases.__file__)


def run(environment: dict[str, str], *folder: Path) -> dict[str, object]:
    return equality_cases.printed([PROGRAM, *folder], environment)


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    digests = equality_cases.digests()
    assert len(set(digests.values())) == 1
    return digests


def test_torch_without_vector_instructions(here):
    there = run({"ATEN_CPU_CAPABILITY": "default"})
    assert there["torch_capability"] in {"DEFAULT", "NO AVX"}
    assert there["digests"] == here


@pytest.mark.slow
@pytest.mark.parametrize("features", equality_cases.other_units("+avx,+avx2,+f16c,+fma", [""]))
def test_kernels_of_another_processor(features, here, tmp_path):
    if features and (sys.platform != "linux" or platform.machine() != "x86_64"):
        pytest.skip("the machine may have no such vectors")
    there = run({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}, tmp_path)
    assert there["processor"] == ["generic", features]
    assert there["compiled"], "the kernels were compiled here, not taken from another cache"
    assert there["wide_vectors"] == bool(features)
    assert any(tmp_path.rglob("fill-u32-*.o"))
    assert there["digests"] == here
