"""Compile the CPU kernels for common processors, so that nothing is compiled on a fresh machine.

Building the wheel runs this, and ``make kernels`` for a checkout. The code is for this machine's architecture and
system, and from Linux on x86-64 also for Linux on arm64; other machines compile on first use. See
``lottapack/rng/kernels/shipped.py`` and decisions 0063 and 0071.
``LOTTAPACK_KERNELS`` limits it to some targets, such as ``v3``, separated by commas.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PLACE = "lottapack/rng/kernels/shipped"


class KernelsHook(BuildHookInterface[Any]):
    """Add the object files to a wheel; not to an editable installation, whose sources change."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        try:
            compile_all(Path(self._folder.name))
        except (ImportError, subprocess.CalledProcessError) as fault:
            self.app.display_warning(f"the kernels are compiled on first use instead, because {fault}")
            return
        build_data["force_include"][self._folder.name] = PLACE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def compile_all(folder: Path) -> None:
    """Compile for each target of this machine in a process of its own, and write the list of all object files."""
    sys.path.insert(0, str(ROOT))
    from lottapack.rng.kernels import machine, shipped

    for old in folder.glob("*"):
        old.unlink()
    this, chosen = machine.processor().triple, os.environ.get("LOTTAPACK_KERNELS")
    own = this.partition("-")[0]
    targets = [(own, target) for target in shipped.TARGETS.get(own, ())]
    if "linux" in this and own in shipped.ALSO:
        targets += [(shipped.ALSO[own], target) for target in shipped.TARGETS[shipped.ALSO[own]]]
    if chosen is not None:
        targets = [(architecture, target) for architecture, target in targets if target.label in chosen.split(",")]
    listed: list[dict[str, Any]] = []

    def compiled(architecture: str, target: shipped.Target) -> bytes:
        of_numba = {"NUMBA_CPU_NAME": target.name, "NUMBA_CPU_FEATURES": target.flags}
        if architecture != own:  # loops become vectors of the other architecture, not of this one
            of_numba = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_LOOP_VECTORIZE": "0"}
        environment = {**os.environ, **of_numba}
        command = [sys.executable, __file__, folder, architecture, target.label]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=architecture == own)
        return done.stdout if done.returncode == 0 else b"[]"  # numba's own code may change; its error is on stderr

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for answer in pool.map(lambda job: compiled(*job), targets):
            listed += json.loads(answer)
    (folder / shipped.LIST).write_text(json.dumps(listed, indent=1))


def compile_for(folder: Path, architecture: str, label: str) -> list[dict[str, Any]]:
    """Compile the kernels of one target, which the process's variables describe; return their places in the list."""
    import llvmlite.binding as llvm

    from lottapack.rng.kernels import machine, shipped

    (target,) = (one for one in shipped.TARGETS[architecture] if one.label == label)
    if not llvm.get_process_triple().startswith(architecture):
        _only_compile()
        other = machine.Processor(f"{architecture}-unknown-linux-gnu", target.name, target.flags, chosen=True)
        machine.compile_for_another(other)
    from lottapack.codecs import trellis_stream
    from lottapack.products import declared as products
    from lottapack.rng.kernels import declared
    from lottapack.rng.kernels.source_digest import source_digest

    this = machine.processor()
    kernels = (products.DOTS,)
    if not this.has("avx512bf16"):  # the others gain nothing from it
        formula = declared.FORMULA_KERNELS if declared.FORMULA else ()
        kernels = (*declared.TABLE_KERNELS, *formula, *products.SIGN_KERNELS, *trellis_stream.KERNELS)
    listed = []
    for kernel in kernels:
        for name, code in kernel.compiled():
            file = f"{name}-{shipped.platform(this)}-{label}.o"
            (folder / file).write_bytes(code)
            entry = {"name": name, "module": kernel.module, "platform": shipped.platform(this), "file": file}
            found = {"sources": source_digest(kernel.module), "sha256": hashlib.sha256(code).hexdigest()}
            listed.append({**entry, "features": target.features, **found})
    return listed


def _only_compile() -> None:
    """Keep numba from generating code in this process, whose processor lacks the instructions of another one.

    numba still translates and optimises each kernel; lottapack's compiler generates the code from that.
    """
    from numba.core.codegen import JITCodeLibrary
    from numba.core.cpu import CPUContext

    def nothing_to_call(_: Any, library: Any, *__: Any) -> Any:
        library._ensure_finalized()
        return [].append  # numba asks for a built-in function, another one for each kernel

    CPUContext.get_executable = nothing_to_call
    JITCodeLibrary._finalize_specific = lambda _: None


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(compile_for(Path(sys.argv[1]), *sys.argv[2:])))
    else:
        (ROOT / PLACE).mkdir(exist_ok=True)
        compile_all(ROOT / PLACE)
