"""This processor, as LLVM sees it, and machine code for it in this process's memory. Needs no numba."""

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

_lock = threading.Lock()


@dataclass(frozen=True)
class Processor:
    """What code is made for. ``features``: as LLVM writes them, ``"+avx2,-sse4a"``."""

    triple: str
    name: str
    features: str

    def has(self, feature: str) -> bool:
        """Whether it has a feature, as ``"avx512f"``."""
        return f"+{feature}" in self.features.split(",")


@cache
def processor() -> Processor:
    """This machine's; or the one that numba's variables ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` name."""
    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        try:
            features = "" if name == "generic" else llvm.get_host_cpu_features().flatten()
        except RuntimeError:  # LLVM does not know how to ask this kind of processor
            features = ""
    return Processor(llvm.get_process_triple(), name or llvm.get_host_cpu_name(), features)


def target_machine() -> Any:
    """LLVM's generator of code for processor() that is loaded where it is made."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    this = processor()
    target = llvm.Target.from_triple(this.triple)
    where = "static" if this.triple.startswith("x86") else "default"
    return target.create_target_machine(this.name, this.features, opt=3, reloc=where, codemodel="jitdefault", jit=True)


@cache
def _engine() -> Any:
    machine = target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def load(code: bytes, symbol: str) -> int:
    """Load an object file that needs nothing else; the address of one of its functions."""
    with _lock:
        engine = _engine()
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return int(engine.get_function_address(symbol))
