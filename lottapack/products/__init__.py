"""Products with a backbone that is generated, used and forgotten: it never lies in memory."""

from typing import Final

IN_REGISTERS: Final = ("sign1",)
"""The tables whose weights a kernel makes in registers."""
