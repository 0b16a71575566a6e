"""Cases on which all backends must agree. As a program it prints a digest of each backend's bits as JSON."""

import hashlib
import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extent import extent

from lottapack.rng import BUILTIN, Source, binary32, builtin, custom, fill_, reference
from lottapack.rng.backends import Backend, registered
from lottapack.rng.kernels.machine import processor
from lottapack.rng.stream import HADAMARD
from lottapack.rng.tables import Table

DTYPES = ("float32", "bfloat16", "float16")


def _own(bits: int) -> Table:
    """A table without symmetry or order, with zeros in it."""
    values = np.random.default_rng(bits).standard_t(4, 2**bits).astype(np.float32)
    values[:: 2 ** max(1, bits - 2)] = 0
    return custom(f"own{bits}", values)


ALONE = [table for table in BUILTIN if table != HADAMARD]
"""The built-in tables whose elements need no shape: tests/unit/test_hadamard.py has the tests of the other one."""

TABLES = {table.id: table for table in [*map(builtin, ALONE), *map(_own, (1, 2, 4, 8, 16))]}


def other_units(avx2: str, few: list[str]) -> list[str]:
    """Features of the processors to compile for: AVX2 where this machine has more, else these few."""
    return extent([avx2] if processor().has("avx512f") else few, ["", avx2])


def printed(program: list[str | Path], environment: dict[str, str]) -> Any:
    """Run a program with this Python and another environment; return the JSON that it prints."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-W", "error", *program],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def compile_into(folder: str) -> None:
    """Take the kernels' machine code from a folder of its own, and compile what it lacks."""
    from lottapack.rng.kernels import object_files

    # (A prefix for all that Python compiles would have it compile torch's and numba's modules as well.)
    object_files.cache_from_source = lambda _: f"{folder}/_"


def source(table: str, dtype: str, *, seed: int = 2**63 + 42, name: str = "layers.0.weight") -> Source:
    return Source(seed, name, TABLES[table], binary32(0.0519), dtype)


def ranges(fields: int) -> list[tuple[int, int]]:
    """Return pairs of start and count around the borders of fields, words, blocks and counters."""
    served = 1024 * fields
    counts = (0, 1, 2, 1023, 1024, 1025, served - 1, served, served + 1)
    starts = (1, 1000, 1023, 1024, served - 1, served + 1, 2**32 - 700, 2**34 * fields - 700, 2**63 - 1500)
    # Several whole blocks, for indices that kernels look up while they generate words.
    whole = [(0, 3 * served + 5), (2**34 * fields - 2 * served - 5, 3 * served)] if fields <= 4 else []
    return [(0, count) for count in counts] + [(start, 1500) for start in starts] + whole


@lru_cache(maxsize=512)
def expected(source: Source, start: int, count: int) -> np.ndarray:
    return reference.elements(source, start, count)


def bits_of(tensor: torch.Tensor) -> np.ndarray:
    size = tensor.element_size()
    return tensor.cpu().reshape(-1).view({4: torch.int32, 2: torch.int16}[size]).numpy().view(f"u{size}")


def blank(source: Source, count: int, device: str = "cpu") -> torch.Tensor:
    """Make a tensor filled with a value that tables do not contain, so that unwritten elements show."""
    return torch.full((count,), 777.0, dtype=getattr(torch, source.dtype), device=device)


def filled(backend: Backend, device: str, source: Source, start: int, count: int) -> np.ndarray:
    tensor = blank(source, count, device)
    backend.fill(tensor, source, start)
    return bits_of(tensor)


def digests() -> dict[str, str]:
    """Return, by backend, the SHA-256 of the bits of all tables, dtypes and ranges, and of their fingerprints."""
    found = {}
    for backend in registered():
        if not backend.supports("cpu"):
            continue
        digest = hashlib.sha256()
        for table in TABLES:
            for dtype in DTYPES:
                one = source(table, dtype)
                for start, count in ranges(one.fields):
                    tensor = blank(one, count)
                    backend.fill(tensor, one, start)
                    digest.update(bits_of(tensor).tobytes())
                    digest.update(backend.fingerprint(tensor, start).to_bytes(8, "little"))
        found[backend.name] = digest.hexdigest()
    return found


def main() -> None:
    from lottapack.rng.kernels import machine

    if len(sys.argv) > 1:
        compile_into(sys.argv[1])
    fill_(torch.empty(1), source("normal16", "float32"))  # the known answers
    found = digests()
    compiled = "numba" in sys.modules
    assembly = ""
    if compiled:
        from lottapack.rng.kernels.compiler import llvm_module
        from lottapack.rng.kernels.declared import FILL

        kinds = tuple(kind.replace("bits", "u32") for kind in FILL.parameters)
        assembly = machine.target_machine().emit_assembly(llvm_module(FILL.module, FILL.name, kinds, "fill"))
    print(
        json.dumps(
            {
                "digests": found,
                "torch_capability": torch.backends.cpu.get_cpu_capability(),
                "processor": [machine.processor().name, machine.processor().features],
                "compiled": compiled,
                "wide_vectors": "ymm" in assembly or "zmm" in assembly,
            }
        )
    )


if __name__ == "__main__":
    main()
