"""A part of ``make guard``: kernels stay within their memory, and the guard detects one that does not."""

import subprocess
import sys
from pathlib import Path

import pytest
from extent import crossed

from lottapack.rng import backends

GUARD = Path(__file__).with_name("guard.py")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by mprotect"),
    pytest.mark.skipif(not backends.numba_works(), reason="no kernels"),
]


def run(*arguments, code=None):
    given = ["-c", code] if code else [str(GUARD), *arguments]
    return subprocess.run([sys.executable, *given], capture_output=True, text=True, cwd=GUARD.parent, timeout=300)


def test_no_kernel_touches_what_is_not_its_own():
    done = run("quick")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) > 1000


@pytest.mark.parametrize(
    ("act", "behind"), crossed(["ctypes.memset(at, 1, 1)", "ctypes.string_at(at, 1)"], [True, False])
)
def test_a_byte_beyond_would_be_noticed(act, behind):
    place = "a.ctypes.data + a.nbytes" if behind else "a.ctypes.data - 1"
    code = (
        f"import ctypes, numpy as np\nfrom guard import Guarded\nheld = Guarded(np.arange(5), {behind})\na = held.array"
    )
    assert run(code=f"{code}\nat = a.ctypes.data; {act}").returncode == 0
    assert run(code=f"{code}\nat = {place}; {act}").returncode == -11
