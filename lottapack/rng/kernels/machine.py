"""Describe this processor to LLVM, and load machine code into this process. Needs no numba."""

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

_lock = threading.Lock()


@dataclass(frozen=True)
class Processor:
    """The processor that code is compiled for.

    ``features``: in LLVM's notation, such as ``"+avx2,-sse4a"``. ``chosen``: whether the environment names it.
    """

    triple: str
    name: str
    features: str
    chosen: bool = False

    def has(self, feature: str) -> bool:
        """Return whether it has a feature, such as ``"avx512f"``."""
        return f"+{feature}" in self.features.split(",")

    @property
    def is_arm64(self) -> bool:
        """Whether it is a 64-bit Arm processor, all of which have vectors of 128 bits (NEON)."""
        return self.triple.startswith(("aarch64", "arm64"))


_another: Processor | None = None


def compile_for_another(other: Processor) -> None:
    """Let processor() return one of another architecture, in a process that only compiles. Call it before all else."""
    global _another
    assert processor.cache_info().currsize == 0, "kernels know the processor already"
    _another = other


@cache
def processor() -> Processor:
    """Return this machine's processor, or the one named by ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``."""
    if _another is not None:
        return _another
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    chosen = name is not None or features is not None
    if features is None:
        try:
            features = "" if name == "generic" else llvm.get_host_cpu_features().flatten()
        except RuntimeError:  # LLVM cannot query this kind of processor
            features = ""
    return Processor(llvm.get_process_triple(), name or llvm.get_host_cpu_name(), features, chosen)


def target_machine() -> Any:
    """Return LLVM's code generator for processor(), for code that is loaded in this process."""
    if _another is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    this = processor()
    target = llvm.Target.from_triple(this.triple)
    where = "static" if this.triple.startswith("x86") else "default"
    return target.create_target_machine(this.name, this.features, opt=3, reloc=where, codemodel="jitdefault", jit=True)


@cache
def _engine() -> Any:
    machine = target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def load(code: bytes, symbol: str) -> int:
    """Load a self-contained object file and return the address of one of its functions."""
    assert _another is None, "code for another processor cannot run here"
    with _lock:
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return int(engine.get_function_address(symbol))
