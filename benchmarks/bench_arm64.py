"""Count the instructions that an arm64 processor executes for a weight, in the code that a wheel carries.

    python benchmarks/bench_arm64.py [--model neoverse-n2] [--json]

An emulator executes the kernels; the results must have the reference's bits. A count does not depend on the kind of
processor, but the time does. ``--model`` estimates it: llvm-mca, a program of LLVM, gets what was executed in the
middle of each case and the name of a processor, and answers with cycles. It assumes that all data are in the first
cache.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Grid

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "arm64")]

from emulator import Emulator  # noqa: E402  before any kernel
from shipped import SCALE, SIGNS, bits_of, forward, in_stated_order, transposed  # noqa: E402

from lottapack.products import declared  # noqa: E402
from lottapack.rng import Source, builtin, cpu, reference  # noqa: E402

ELEMENTS, SIDE = 1 << 16, 1024
TRACED = 20_000
"""The instructions that llvm-mca gets."""
Case = tuple[str, int, Callable[[], bool]]
"""What is counted, the weights (in products, times inputs), and a function that says whether its bits are right."""


def cases() -> Iterator[Case]:
    """Yield fills, fingerprints, bits of signs, and products."""
    for table in ("normal16", "uniform16", "normal8", "sign1"):
        for dtype in ("float32", "bfloat16", "float16"):
            source = Source(2**63 + 1, "layer", builtin(table), SCALE, dtype)
            due = reference.elements(source, 0, ELEMENTS)

            def fill(source: Source = source, due: np.ndarray = due) -> bool:
                return np.array_equal(bits_of(source, 0, ELEMENTS), due)

            yield f"{table}, {dtype}", ELEMENTS, fill

            if (table, dtype) == ("normal16", "float32"):

                def print_of(source: Source = source, due: np.ndarray = due) -> bool:
                    return cpu.fingerprint_of(source, ELEMENTS) == reference.fingerprint(due)

                yield f"fingerprint of {table}, {dtype}", ELEMENTS, print_of
    weight = reference.elements(SIGNS, 0, SIDE * SIDE).view(np.float32).reshape(SIDE, SIDE)
    packed = np.packbits(weight.reshape(-1) > 0, bitorder="little").view(np.uint32)

    def bits() -> bool:
        found = np.empty(packed.size, np.uint32)
        declared.SIGNS(found, 0, *SIGNS.halves)
        return np.array_equal(found, packed)

    yield "bits of signs", SIDE * SIDE, bits
    for way, multiply, matrix in (("product", forward, weight), ("transposed product", transposed, weight.T)):
        for inputs in (1, 2, 4, 8):
            x = np.random.default_rng(0).standard_normal((inputs, SIDE), np.float32)

            def product(
                multiply: Callable[..., np.ndarray] = multiply, matrix: np.ndarray = matrix, x: np.ndarray = x
            ) -> bool:
                return np.array_equal(multiply(x, SIDE, SIDE).view("u4"), in_stated_order(x, matrix).view("u4"))

            yield f"{way}, inputs: {inputs}", SIDE * SIDE * inputs, product


def cycles(processor: Emulator, trace: list[tuple[int, int]], mca: str, model: str) -> float:
    """Return llvm-mca's cycles for an instruction, on average over the middle of what was executed."""
    from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs

    disassembler, lines = Cs(CS_ARCH_ARM64, CS_MODE_ARM), list[str]()
    for address, size in trace[len(trace) // 2 :] + trace[: len(trace) // 2]:
        if len(lines) > TRACED:
            break
        lines += [f"{one.mnemonic} {one.op_str}" for one in disassembler.disasm(processor.code(address, size), address)]
    text = re.sub(r"(?m)^(b\S*|cbn?z|tbn?z|adrp?)( .*)#0x[0-9a-f]+$", r"\1\2#0", "\n".join(lines))
    command = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={model}", "-iterations=1"]
    command += ["-instruction-info=0", "-resource-pressure=0"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^(Instructions|Total Cycles): +(\d+)", done.stdout, re.M))
    return int(found["Total Cycles"]) / int(found["Instructions"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="estimate cycles on this processor of LLVM's, such as neoverse-n2")
    parser.add_argument("--mca", default="llvm-mca", help="the program; LLVM 16 is the first that knows neoverse-n2")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        build = "import sys; from pathlib import Path; import hatch_build; hatch_build.compile_all(Path(sys.argv[1]))"
        environment = {**os.environ, "LOTTAPACK_KERNELS": "v8"}
        subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, env=environment, check=True)
        if not any(Path(folder).glob("*-aarch64-*.o")):
            print("no instructions of arm64 were counted: its code for Linux is compiled on Linux alone")
            return
        processor = Emulator(Path(folder))
        processor.install()
        for name, weights, run in cases():
            before, processor.trace = processor.executed, [] if arguments.model else None
            if not run():
                raise SystemExit(f"{name}: the bits are not the reference's")
            row = {"case": name, "instructions": (processor.executed - before) / weights}
            if processor.trace is not None:
                row["cycles"] = row["instructions"] * cycles(processor, processor.trace, arguments.mca, arguments.model)
            rows.append(row)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    grid = Grid(title="arm64, for each weight (products: and each input)")
    grid.add_column("case")
    for column in list(rows[0])[1:]:
        grid.add_column(column if column == "instructions" else f"{column}, {arguments.model}", justify="right")
    for row in rows:
        grid.add_row(row.pop("case"), *(f"{value:.3f}" for value in row.values()))
    Console().print(grid)


if __name__ == "__main__":
    main()
