"""bench(): measure how fast this machine rebuilds weights, compared with the alternatives."""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from lottapack import rng
from lottapack.device import resolve
from lottapack.display import Displayed, Facts
from lottapack.errors import UnsupportedError
from lottapack.limits import check_memory
from lottapack.progress import Progress, require_functions
from lottapack.rng.stream import ITEM_BITS

__all__ = ["Speed", "SpeedReport", "bench"]

ELEMENTS: Final = 1 << 25
"""The weights of a case: more than any cache holds."""
ROUNDS: Final = 5
_PAUSE: Final = 0.01
"""Seconds before each run: torch's own threads spin for a while after their work, which would take processor time."""

DOWNLOAD: Final = 125e6
"""The bytes a second of a line of 1 Gbit/s."""

Cases = Mapping[str, tuple[int, Callable[[], object]]]
"""For each case, the number of elements that it writes, and the function that writes them."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of one way to get weights of one dtype.

    ``case``: a distribution, or an alternative: ``fill_``, ``torch.randn``, ``clone`` (of a checkpoint in the page
    cache, read as safetensors and copied to the device) and ``download`` (at 1 Gbit/s, computed). ``weights_per_s``:
    the median of the rounds. ``of_fill``, ``of_randn``, ``of_clone``, ``of_download``: how many times as fast as those,
    as medians of each round's ratio.
    """

    case: str
    dtype: str
    weights_per_s: float
    of_fill: float
    of_randn: float
    of_clone: float
    of_download: float


@dataclass(frozen=True, slots=True, repr=False)
class SpeedReport(Displayed):
    """The result of bench(). ``machine``: processor or GPU, threads, versions."""

    device: str
    machine: str
    elements: int
    rounds: int
    speeds: tuple[Speed, ...]

    def _facts(self) -> Facts:
        columns = ("case", "dtype", "million weights/s", "of fill_", "of randn", "of clone", "of download")
        rows = [
            (
                one.case,
                one.dtype,
                f"{one.weights_per_s / 1e6:,.0f}",
                *(f"{part:.3g}" for part in (one.of_fill, one.of_randn, one.of_clone, one.of_download)),
            )
            for one in self.speeds
        ]
        return Facts(
            self.device,
            f"{len(self.speeds)} cases of {self.elements:,} weights",
            {"machine": self.machine},
            columns,
            rows,
        )


@torch.no_grad()
def bench(
    *,
    device: str | torch.device = "cpu",
    elements: int = ELEMENTS,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> SpeedReport:
    """Measure how fast each built-in distribution is rebuilt in each dtype, compared with the alternatives.

    All cases of a dtype write the same memory and take turns, so that other load on the machine affects all of
    them. The first turn is not measured: it compiles, runs the known-answer test and touches the memory.

    Args:
        device: where weights are generated.
        elements: the weights that a case writes in a round. With few, the cost of a call matters and caches help.
        rounds: the turns that are measured.
        progress: called with the runs done so far and in all.

    Raises:
        UnsupportedError: the device cannot be used, or a number is below 1.
        LimitError: the weights do not fit the free memory.
        DeviceError: the device computes wrong bits.

    Source:
        benchmarks/RESULTS.md says how the published figures were taken.

    Examples:
        >>> speeds = lottapack.speed.bench(elements=1024, rounds=1).speeds
        >>> sorted({speed.dtype for speed in speeds})
        ['bfloat16', 'float16', 'float32']
    """
    require_functions(progress=progress)
    target = resolve(device)
    if elements < 1 or rounds < 1:
        raise UnsupportedError(
            f"elements={elements}, rounds={rounds}: both must be at least 1", hint="Pass larger numbers."
        )
    check_memory("bench", 3 * 4 * elements, None, target)
    check_memory("bench", 2 * 4 * elements, None)
    speeds: list[Speed] = []
    for number, dtype in enumerate(ITEM_BITS):
        with tempfile.TemporaryDirectory() as folder:
            cases = _cases(dtype, elements, target, Path(folder))
            seconds = measure(cases, rounds, device=target, progress=progress, part=(number, len(ITEM_BITS)))
        speeds += _speeds(dtype, elements, seconds)
    return SpeedReport(str(target), machine(target), elements, rounds, tuple(speeds))


def measure(
    cases: Cases,
    rounds: int,
    *,
    device: torch.device | None = None,
    progress: Progress | None = None,
    part: tuple[int, int] = (0, 1),
) -> dict[str, list[float]]:
    """Return seconds by case and round.

    The cases take turns; a first turn is not measured. ``device``: where they run, by default on the CPU. ``part``: the
    number of this call among those that share a progress, and their count.
    """
    runs = len(cases) * (rounds + 1)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for number, (name, (_, run)) in enumerate(cases.items()):
            _wait(device)
            time.sleep(_PAUSE)
            begin = time.perf_counter()
            run()
            _wait(device)
            if turn:
                seconds[name].append(time.perf_counter() - begin)
            if progress:
                progress(part[0] * runs + turn * len(cases) + number + 1, part[1] * runs)
    return seconds


def ratio(seconds: list[float], other: list[float]) -> float:
    """Return how many times as fast as the other, as the median over rounds: load on the machine affects both."""
    return statistics.median(two / one for one, two in zip(seconds, other, strict=True))


def machine(device: torch.device) -> str:
    """Describe the machine in one line: processor or GPU, threads, versions."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    name = names[0].partition(": ")[2] if names else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {torch.get_num_threads()} threads, {capability}, torch {torch.__version__}"


def _cases(dtype: str, elements: int, device: torch.device, folder: Path) -> Cases:
    from safetensors.torch import load_file, save_file

    kind = getattr(torch, dtype)
    buffer = torch.ones(elements, dtype=kind, device=device)
    file = folder / "checkpoint.safetensors"
    save_file({"weight": torch.ones(elements, dtype=kind, device="cpu")}, file)

    def clone() -> None:
        buffer.copy_(load_file(file)["weight"])

    def rebuild(distribution: str) -> tuple[int, Callable[[], object]]:
        source = rng.Source(42, "bench", rng.builtin(distribution), rng.binary32(0.05), dtype, buffer.shape)
        return elements, lambda: rng.fill_(buffer, source)

    return {
        "fill_": (elements, lambda: buffer.fill_(0.5)),
        "torch.randn": (elements, lambda: torch.randn(elements, out=buffer, dtype=kind, device=device)),
        "clone": (elements, clone),
        **{distribution: rebuild(distribution) for distribution in rng.BUILTIN},
    }


def _speeds(dtype: str, elements: int, seconds: dict[str, list[float]]) -> list[Speed]:
    download = elements * ITEM_BITS[dtype] / 8 / DOWNLOAD
    every = {**seconds, "download": [download] * len(seconds["fill_"])}
    return [
        Speed(
            case,
            dtype,
            elements / statistics.median(each),
            *(ratio(each, every[other]) for other in ("fill_", "torch.randn", "clone", "download")),
        )
        for case, each in every.items()
    ]


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
