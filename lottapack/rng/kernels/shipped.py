"""Machine code that comes with lottapack: object files for common processors, compiled when the wheel was built.

``hatch_build.py`` writes them, with a list of what each was compiled from and which features of a processor it needs.
A checkout of the source has none, unless ``make kernels`` wrote them.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from lottapack.rng.kernels.machine import Processor, processor
from lottapack.rng.kernels.source_digest import source_digest

FOLDER: Final = Path(__file__).with_name("shipped")
LIST: Final = "kernels.json"


class ShippedKernel(msgspec.Struct, frozen=True):
    """One object file. ``features``: what it needs of a processor. ``sources``: see source_digest()."""

    name: str
    module: str
    platform: str
    features: tuple[str, ...]
    sources: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Target:
    """A kind of processor that code is compiled for.

    ``label``: in names of files. ``name``: LLVM's. ``tuning``: LLVM's features that need nothing of a processor.
    """

    label: str
    name: str
    features: tuple[str, ...]
    tuning: tuple[str, ...] = ()

    @property
    def flags(self) -> str:
        """The features in LLVM's notation."""
        return ",".join([*(f"+{feature}" for feature in self.features), *self.tuning])


_V3: Final = (
    *("avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt", "sahf", "xsave"),
    *("sse3", "ssse3", "sse4.1", "sse4.2"),
)
_V4: Final = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
# LLVM would split the formula's vectors in two for processors that slow down when they use all 512 bits.
_WHOLE: Final = ("-prefer-256-bit",)
TARGETS: Final = {
    "x86_64": (
        Target("v4bf16", "x86-64-v4", (*_V4, "avx512bf16"), _WHOLE),
        Target("v4", "x86-64-v4", _V4, _WHOLE),
        Target("v3", "x86-64-v3", _V3),
        Target("v1", "x86-64", ()),
    ),
    "aarch64": (Target("v8", "generic", ()),),
    "arm64": (Target("v8", "generic", ()),),
}
"""The targets of each architecture, the best one first."""
ALSO: Final = {"x86_64": "aarch64"}
"""The architecture of other Linux machines that a Linux machine compiles for as well."""


def platform(this: Processor) -> str:
    """Return the architecture and the system that object files are for, such as ``"x86_64-linux"``."""
    architecture, _, system = this.triple.partition("-")
    return f"{architecture}-{next((name for name in ('linux', 'darwin', 'windows') if name in system), system)}"


def read(name: str, module: str) -> bytes | None:
    """Return the best object file of a kernel for this processor, or None if none comes with lottapack.

    A file that was damaged or belongs to other sources is not used, and none if the environment chooses a processor.
    """
    this = processor()
    if this.chosen:
        return None
    for kernel in _listed():
        if (kernel.name, kernel.module, kernel.platform) != (name, module, platform(this)):
            continue
        if not all(map(this.has, kernel.features)) or kernel.sources != source_digest(module):
            continue
        with suppress(OSError):
            code = (FOLDER / kernel.file).read_bytes()
            if hashlib.sha256(code).hexdigest() == kernel.sha256:
                return code
    return None


@cache
def _listed() -> list[ShippedKernel]:
    try:
        return msgspec.json.decode((FOLDER / LIST).read_bytes(), type=list[ShippedKernel])
    except (OSError, msgspec.MsgspecError):
        return []
