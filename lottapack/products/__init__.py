"""Products with a generated backbone: its weights are generated, used and dropped, never stored in memory."""

from typing import Final

IN_REGISTERS: Final = ("sign1",)
"""The tables whose weights a kernel can generate in registers."""
