"""Compare loading a pack in `trellis8` with the same pack in float16, and with that of another version of lottapack.

python benchmarks/bench_codings_load.py [--threads 1 2] [--rounds N] [--loads N] [--other PYTHON]

The artifact is that of bench_codings_case.py: 28 million generated weights and 8.4 million trained values. Each round
runs each kind in a new process, in an order that turns; a process loads once, then several times more, and gives the
processor time of the first load and the medians of the others. PYTHON is an interpreter that imports the other version,
which writes its own float16 pack.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_codings_case import MILLION, model

TRELLIS, HALF, OTHER = "trellis8", "float16", "float16, other version"


def write(kind: str, path: Path) -> None:
    """Write a pack."""
    import lottapack

    made = model()
    if kind == TRELLIS:
        lottapack.pack(made, path, compression=lottapack.Compression(max_error=0.045))
    elif hasattr(lottapack, "Compression"):
        lottapack.pack(made, path, compression=lottapack.Compression(dtype="float16"))
    else:
        lottapack.pack(made, path, stored_dtype="float16")


def child(path: Path, threads: int, loads: int) -> None:
    """Print the processor time of the first load, and the medians of wall and processor time of more, in ms."""
    import torch

    import lottapack

    torch.set_num_threads(threads)
    path.read_bytes()  # into the page cache
    begin = time.process_time()
    lottapack.load(path)
    first = time.process_time() - begin
    walls, busy = [], []
    for _ in range(loads):
        wall, process = time.perf_counter(), time.process_time()
        made = lottapack.load(path)
        busy.append(time.process_time() - process)
        walls.append(time.perf_counter() - wall)
        del made
    found = {"first": first, "wall": statistics.median(walls), "busy": statistics.median(busy)}
    print(json.dumps({what: 1e3 * seconds for what, seconds in found.items()}))


def run(python: str, *arguments: object) -> str:
    """Run this script in a new process and return what it prints."""
    command = [python, __file__, *map(str, arguments)]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent))
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def main() -> None:
    """Parse the command line, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--other", help="an interpreter that imports another version of lottapack")
    parser.add_argument("--write", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=3, metavar=("PATH", "THREADS", "LOADS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write(given.write[0], Path(given.write[1]))
        return
    if given.child:
        child(Path(given.child[0]), int(given.child[1]), int(given.child[2]))
        return
    pythons = {TRELLIS: sys.executable, HALF: sys.executable} | ({OTHER: given.other} if given.other else {})
    with tempfile.TemporaryDirectory() as folder:
        packs = {kind: Path(folder) / f"{number}.lotta.safetensors" for number, kind in enumerate(pythons)}
        for kind, path in packs.items():
            run(pythons[kind], "--write", kind, path)
            print(f"{kind}: {path.stat().st_size / MILLION:.2f} MB")
        print("threads | pack | wall, ms | processor, ms | processor, first load, ms | of least processor time, ms")
        for threads in given.threads:
            times: dict[str, list[dict[str, float]]] = {kind: [] for kind in packs}
            for turn in range(given.rounds):
                order = list(packs)[turn % len(packs) :] + list(packs)[: turn % len(packs)]
                for kind in order:
                    out = run(pythons[kind], "--child", packs[kind], threads, given.loads)
                    times[kind].append(json.loads(out.splitlines()[-1]))
            for kind, found in times.items():
                shown = [statistics.median(load[what] for load in found) for what in ("wall", "busy", "first")]
                shown.append(min(load["busy"] for load in found))
                print(threads, kind, *(f"{milliseconds:.1f}" for milliseconds in shown), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
