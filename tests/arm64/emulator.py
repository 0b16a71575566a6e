"""An emulated arm64 processor that runs the kernels of a wheel on this process's arrays, and counts instructions.

It needs no arm64 system: the object files need nothing but two functions of C. Import this before any kernel.
"""

import ctypes
import math
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from elftools.elf.elffile import ELFFile
from unicorn import UC_ARCH_ARM64, UC_HOOK_BLOCK, UC_MODE_ARM, UC_PROT_ALL, Uc
from unicorn.arm64_const import UC_ARM64_REG_CPACR_EL1, UC_ARM64_REG_LR, UC_ARM64_REG_SP, UC_ARM64_REG_X0

from lottapack.rng.kernels import machine

machine.compile_for_another(machine.Processor("aarch64-unknown-linux-gnu", "generic", "", chosen=True))

from lottapack.rng import cpu  # noqa: E402
from lottapack.rng.kernels.kernel import Kernel  # noqa: E402

_PAGE: Final = 4096
_LIBRARY, _CODE, _STACK, _RETURN = 0x10000000, 0x10001000, 0x30000000, 0x40000000
"""Addresses: C's functions, object files, the end of the stack, and what a kernel returns to. Arrays keep theirs."""
_ALLOC: Final = 2
"""The flag of a section that is in memory (ELF: SHF_ALLOC)."""
_OF_C: Final = {
    "memset": (0xAA0003E3, 0xB4000082, 0x38001461, 0xD1000442, 0xB5FFFFC2, 0xD65F03C0),
    "memcpy": (0xAA0003E3, 0xB40000A2, 0x38401424, 0x38001464, 0xD1000442, 0xB5FFFFA2, 0xD65F03C0),
}
"""C's functions, a byte at a time. They are not counted, because each system has its own."""
_ABS64, _CALL26 = 257, 283
_MOVW: Final = {264: 0, 266: 16, 268: 32, 269: 48}
"""Kinds of relocation (ELF for the Arm 64-bit architecture, section 5.7); of MOVW_UABS, the bits that each moves."""


class Emulator:
    """A processor that calls the kernels whose object files are in ``folder``.

    ``executed``: the instructions of all calls so far. ``trace``: a list to which the address and the bytes of each
    block of instructions are added, or None.
    """

    def __init__(self, folder: Path) -> None:
        self.executed = 0
        self.trace: list[tuple[int, int]] | None = None
        self._files = {file.name.partition("-aarch64-")[0]: file for file in folder.glob("*-aarch64-*.o")}
        self._entries: dict[str, int] = {}
        self._free, self._pages = _CODE, set[int]()
        self._uc = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self._uc.mem_map(_LIBRARY, _STACK - _LIBRARY)
        self._uc.mem_map(_RETURN, _PAGE)
        self._of_c = {name: _LIBRARY + 64 * number for number, name in enumerate(_OF_C)}
        for name, words in _OF_C.items():
            self._uc.mem_write(self._of_c[name], struct.pack(f"<{len(words)}I", *words))
        self._uc.reg_write(UC_ARM64_REG_CPACR_EL1, 3 << 20)  # so that it has vectors
        self._uc.hook_add(UC_HOOK_BLOCK, self._count, begin=_CODE, end=_STACK)

    def install(self) -> None:
        """Let all kernels of this process run here."""
        Kernel._form = lambda kernel, bits: self._function(kernel, bits)  # type: ignore[method-assign]
        cpu.default = lambda: 1  # it is one processor

    def code(self, address: int, size: int) -> bytes:
        """Return instructions that are loaded."""
        return bytes(self._uc.mem_read(address, size))

    def _count(self, _: Any, address: int, size: int, __: Any) -> None:
        self.executed += size // 4
        if self.trace is not None:
            self.trace.append((address, size))

    def _function(self, kernel: Kernel, bits: Any) -> Callable[..., int]:
        """Return a kernel's function for one type of bits, with the C signature of kernels."""
        symbol = kernel._symbol(bits)

        def call(result: Any, exception: Any, packed: bytes) -> int:
            if symbol not in self._entries:
                self._entries[symbol] = self._load(symbol)
            arguments = ctypes.create_string_buffer(packed, len(packed))
            places = [ctypes.addressof(one) for one in (result._obj, exception._obj, arguments)]
            for register, place in enumerate(places, UC_ARM64_REG_X0):
                self._share(place, max(8, len(packed)))
                self._uc.reg_write(register, place)
            self._share_arrays(kernel, bits, packed)
            self._uc.reg_write(UC_ARM64_REG_SP, _STACK)
            self._uc.reg_write(UC_ARM64_REG_LR, _RETURN)
            self._uc.emu_start(self._entries[symbol], _RETURN)
            return ctypes.c_int32(self._uc.reg_read(UC_ARM64_REG_X0)).value

        return call

    def _share_arrays(self, kernel: Kernel, bits: Any, packed: bytes) -> None:
        """Share the arrays among the arguments: of each an address and its sizes, of eight bytes."""
        arrays, at = {array.place: array for array in kernel._arrays}, 0
        for place in range(len(kernel.parameters)):
            if array := arrays.get(place):
                address, *shape = struct.unpack_from(f"<{1 + array.dimensions}Q", packed, at)
                self._share(address, math.prod(shape) * (array.dtype or bits).itemsize)
                at += 8 * array.dimensions
            at += 8

    def _share(self, address: int, size: int) -> None:
        """Let the processor use memory of this process, at the same addresses."""
        for page in range(address // _PAGE, (address + max(size, 1) - 1) // _PAGE + 1):
            if page not in self._pages:
                self._uc.mem_map_ptr(page * _PAGE, _PAGE, UC_PROT_ALL, page * _PAGE)
                self._pages.add(page)

    def _load(self, symbol: str) -> int:
        """Load an object file, and return the address of its function."""
        elf = ELFFile(BytesIO(self._files[symbol].read_bytes()))
        bases: dict[int, int] = {}
        for number, section in enumerate(elf.iter_sections()):
            if section["sh_flags"] & _ALLOC and section["sh_size"]:
                bases[number] = -(-self._free // 64) * 64
                self._uc.mem_write(bases[number], section.data())
                self._free = bases[number] + section["sh_size"]
        symbols = elf.get_section_by_name(".symtab")

        def address(one: Any) -> int:
            return self._of_c[one.name] if one["st_shndx"] == "SHN_UNDEF" else bases[one["st_shndx"]] + one["st_value"]

        for section in elf.iter_sections():
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in bases:
                for entry in section.iter_relocations():
                    value = address(symbols.get_symbol(entry["r_info_sym"])) + entry["r_addend"]
                    self._relocate(entry["r_info_type"], bases[section["sh_info"]] + entry["r_offset"], value)
        (entry,) = symbols.get_symbol_by_name(symbol)
        return address(entry)

    def _relocate(self, kind: int, place: int, value: int) -> None:
        if kind == _ABS64:
            self._uc.mem_write(place, struct.pack("<Q", value))
            return
        field = (value - place >> 2) & (1 << 26) - 1 if kind == _CALL26 else (value >> _MOVW[kind] & 0xFFFF) << 5
        (word,) = struct.unpack("<I", self._uc.mem_read(place, 4))
        self._uc.mem_write(place, struct.pack("<I", word | field))
