"""The element types of the format and their names (spec: container, section 2)."""

from typing import TYPE_CHECKING

from lottapack.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

_ROWS = (
    ("float64", "F64", 8),
    ("int64", "I64", 8),
    ("float32", "F32", 4),
    ("int32", "I32", 4),
    ("float16", "F16", 2),
    ("bfloat16", "BF16", 2),
    ("int16", "I16", 2),
    ("int8", "I8", 1),
    ("uint8", "U8", 1),
    ("bool", "BOOL", 1),
)

ITEMSIZE: dict[str, int] = {name: size for name, _, size in _ROWS}
"""The bytes of one element, by dtype."""

CODE: dict[str, str] = {name: code for name, code, _ in _ROWS}
"""The safetensors code of each dtype."""

FROM_CODE: dict[str, str] = {code: name for name, code, _ in _ROWS}

_ALIASES = {"fp64": "float64", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""What people call them too."""

GENERATED = ("float32", "bfloat16", "float16")
"""The dtypes that a backbone or an adapter can have."""


def torch_dtype(name: str) -> "torch.dtype":
    """Return the torch dtype called ``name``."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype


def floating_name(dtype: "torch.dtype | str") -> str:
    """Return the name of a floating dtype to convert to. Raises UnsupportedError for a dtype that does not float."""
    name = dtype_name(dtype)
    if name not in ITEMSIZE or "float" not in name:
        floating = ", ".join(f"torch.{known}" for known in ITEMSIZE if "float" in known)
        only = (
            'Only GGUF has this type: pass `format="gguf"` to export(). Otherwise choose'
            if name == "q8_0"
            else "Choose"
        )
        shown = repr(dtype) if isinstance(dtype, str) else name
        raise UnsupportedError(f"cannot convert floating tensors to {shown}", hint=f"{only} one of {floating}.")
    return name


def dtype_name(dtype: "torch.dtype | str") -> str:
    """Return the format's name of a torch dtype or of its name, which the format may not support.

    The short names ``fp32``, ``fp16`` and ``bf16`` are understood.
    """
    name = str(dtype).removeprefix("torch.")
    return _ALIASES.get(name, name)
