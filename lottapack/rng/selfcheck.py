"""The known-answer test that each backend must pass on each device before its first use.

It refuses a device with a faulty compiler, driver or multiplier before it writes a wrong weight.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lottapack.errors import DeviceError
from lottapack.rng.scales import binary32
from lottapack.rng.stream import Source
from lottapack.rng.tables import builtin

Compute = Callable[[Source, int, int], int]
"""``compute(source, start, count)``: generates these elements and returns their fingerprint."""


@dataclass(frozen=True)
class Answer:
    """The fingerprint of ``count`` elements from index ``start`` of the tensor on."""

    seed: int
    distribution: str
    dtype: str
    start: int
    count: int
    fingerprint: int

    @property
    def source(self) -> Source:
        """Return the source, which is named ``selfcheck`` and whose scale is not a power of two."""
        return Source(self.seed, "selfcheck", builtin(self.distribution), binary32(0.02), self.dtype)


_FAR: Final = 2**35
"""Of elements of 16 bits, the first that counter 2**32 serves."""

# Kernels take other ways for whole blocks of words that others follow, and for parts of blocks.
ANSWERS: Final = (
    Answer(42, "normal16", "float32", 0, 4096, 0xBA7398200E79B53A),
    Answer(2**64 - 1, "normal16", "float32", _FAR - 4500, 6000, 0xC0935E22950464A0),
    Answer(2**32, "normal16", "bfloat16", 777, 8192, 0x06A8A3756028D268),
    Answer(42, "normal8", "float16", 1023, 13000, 0x0B1DFFD33F7D6863),
    Answer(42, "uniform16", "float32", 100, 3000, 0xE6836D31618573FD),
    Answer(42, "uniform16", "float16", _FAR - 1500, 3000, 0x8BF400971B40D105),
    Answer(42, "sign1", "float32", 2**32 - 5, 2000, 0x80B9F0E54816AF0B),
    Answer(42, "sign1", "bfloat16", 0, 2000, 0x95BA90EE06E32C24),
)

_passed: set[tuple[str, str]] = set()
_lock = threading.Lock()


def ensure(backend: str, device: str, compute: Compute) -> None:
    """Test ``backend`` on ``device`` once. Raises DeviceError if an answer is wrong."""
    if (backend, device) in _passed:
        return
    with _lock:
        if (backend, device) in _passed:
            return
        for answer in ANSWERS:
            computed = compute(answer.source, answer.start, answer.count)
            if computed != answer.fingerprint:
                raise DeviceError(
                    f"the backend {backend!r} computes wrong bits on {device!r}: {answer.distribution} in "
                    f"{answer.dtype}, {answer.count} elements from {answer.start}, has the fingerprint "
                    f"{computed:016x}, expected {answer.fingerprint:016x}",
                    hint="Nothing is generated there. Use another device, or update its driver, torch, numba or "
                    "Triton. If the error stays, report it with these numbers.",
                )
        _passed.add((backend, device))
