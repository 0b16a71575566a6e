"""Arguments and options that commands share, and their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dtype(StrEnum):
    """Floating dtypes that weights can be converted to."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Generator(StrEnum):
    """What drew a model's weights."""

    philox = "philox4x32-10"
    torch_cpu = "torch-cpu"


class Format(StrEnum):
    """What export writes."""

    safetensors = "safetensors"
    transformers = "transformers"
    transformers_pack = "transformers-pack"
    peft = "peft"


Pack = Annotated[Path, typer.Argument(metavar="PACK", help="The pack, a .lotta.safetensors file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code tells.")]
All = Annotated[bool, typer.Option("--all", help="List every one, nothing collapsed.")]
MaxBytes = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Largest model to accept, in bytes; by default what is free.",
        show_default=False,
    ),
]


def examples(*commands: str) -> str:
    """The end of a command's help; the backspace keeps its lines apart."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])
