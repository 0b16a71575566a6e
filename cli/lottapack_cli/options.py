"""Arguments and options that commands share, and their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lottapack.format.dtypes import GENERATED, dtype_name


def _floating(text: str) -> str:
    """The name of a dtype that a person calls float16 or fp16."""
    name = dtype_name(text)
    if name not in GENERATED:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(GENERATED)} (or fp32, bf16, fp16)")
    return name


def _narrow(text: str) -> str:
    name = _floating(text)
    if name == "float32":
        raise typer.BadParameter(f"{text!r} is what it was trained in: float16 or bfloat16 is narrower")
    return name


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
    onnx = "onnx"
    files = "files"


class Weights(StrEnum):
    """Where the weights of an ONNX graph are."""

    file = "file"
    none = "none"


Pack = Annotated[
    str,
    typer.Argument(
        metavar="PACK",
        help="The pack: a .lotta.safetensors file, or a reference as for lottapack pull.",
        show_default=False,
    ),
]
PackFile = Annotated[
    Path, typer.Argument(metavar="PACK", help="The pack, a .lotta.safetensors file.", show_default=False)
]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE",
        help="owner/name[@revision], http(s)://host/owner/name[@revision] of another server, or "
        "oci://host/repository:tag (or @sha256:...).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code tells.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        parser=_floating,
        metavar="DTYPE",
        help="Convert the weights to float32, bfloat16 or float16; by default they stay as recorded.",
        show_default=False,
    ),
]
StoredDtype = Annotated[
    str | None,
    typer.Option(
        parser=_narrow,
        metavar="DTYPE",
        help="Keep what was trained in float32, adapters too, as float16 or bfloat16.",
        show_default=False,
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Say what happens, on standard error; -vv says more."
    ),
]
All = Annotated[bool, typer.Option("--all", help="List every one, nothing collapsed.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where weights are generated, such as cuda.")]
MaxBytes = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Largest model to accept, in bytes; by default what is free.",
        show_default=False,
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="PACKAGE",
        help="A package whose code you trust, where the pack asks to import it; may be repeated.",
        show_default=False,
    ),
]

Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="The registry's folder; by default ./registry.", show_default=False),
]


def root_of(context: typer.Context, root: Path | None) -> Path:
    """The registry's folder: named after a command, or before it (``serve --root DIR token list``), or the default."""
    return root or context.obj or Path("registry")


def examples(*commands: str) -> str:
    """The end of a command's help; the backspace keeps its lines apart."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])
