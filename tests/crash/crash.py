"""Kill lottapack N times at random moments while it writes, and check the files.

python tests/crash/crash.py N [--seed S]

Prints a table. Exits with 1 at the first loss.
"""

import argparse
import os
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "serve"), str(HERE.parent / "oci")]

from kills import Count, LostError, Scenario, kill_often  # noqa: E402
from scenarios import KernelCache, local, oci, served  # noqa: E402

KERNELS = 20
"""Of how many kills one is of the kernels' compiler, which takes seconds instead of milliseconds."""


def table(counts: list[Count]) -> str:
    """Print a line for each scenario and a total."""
    total = Count("all")
    for count in counts:
        for field in ("kills", "old", "new", "mixed"):
            setattr(total, field, getattr(total, field) + getattr(count, field))
    lines = ["| killed | kills | old | new | between the two | lost | one run takes |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for count in (*counts, total):
        seconds = f"{1000 * count.seconds:.0f} ms" if count.seconds else ""
        figures = (count.kills, count.old, count.new, count.mixed, 0)
        lines.append(f"| {count.name} | {' | '.join(f'{figure:,}' for figure in figures)} | {seconds} |")
    return "\n".join(lines)


def share(kills: int, scenarios: list[type[Scenario]]) -> list[int]:
    """Return the number of kills by scenario."""
    least, more = divmod(kills, len(scenarios))
    return [least + (number < more) for number in range(len(scenarios))]


def main() -> int:
    """Kill and count; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    draw = random.Random(options.seed)
    counts = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lottapack-crash-")))
        try:
            # Scenarios that must fork before the kernels are imported come first; then import everything a child needs.
            work: list[tuple[type[Scenario], int]] = [(KernelCache, max(1, options.kills // KERNELS))]
            counts += [one(kind, kills, folder, draw) for kind, kills in work]
            kinds = [*served(folder, stack), *oci(folder, stack), *local()]  # clients read their settings once
            left = options.kills - counts[0].kills
            counts += [one(kind, kills, folder, draw) for kind, kills in zip(kinds, share(left, kinds), strict=True)]
        except LostError as fault:
            print(f"LOST: {fault} (seed {options.seed})", flush=True)
            return 1
    print(table(counts))
    return 0


def one(kind: type[Scenario], kills: int, folder: Path, draw: random.Random) -> Count:
    """Run one scenario in its own folder."""
    own = folder / kind.__name__
    own.mkdir()
    return kill_often(kind(own), kills, draw)


if __name__ == "__main__":
    sys.exit(main())
