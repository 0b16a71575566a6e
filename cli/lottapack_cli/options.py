"""Arguments and options that commands share, and their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lottapack.format.dtypes import GENERATED, dtype_name


def _floating(text: str) -> str:
    """Return the full name of a dtype given as float16 or fp16."""
    name = dtype_name(text)
    if name not in GENERATED:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(GENERATED)} (or fp32, bf16, fp16)")
    return name


def _exported(text: str) -> str:
    """Return the full name of a dtype, or q8_0, which only GGUF has."""
    return "q8_0" if text.lower() == "q8_0" else _floating(text)


def _narrow(text: str) -> str:
    name = _floating(text)
    if name == "float32":
        raise typer.BadParameter(f"{text!r} is the dtype of training: choose float16 or bfloat16")
    return name


class Command(typer.core.TyperCommand):
    """A command whose usage names its arguments without braces, which other tools put around choices."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command's name."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


class Generator(StrEnum):
    """What generated a model's weights."""

    philox = "philox4x32-10"
    torch_cpu = "torch-cpu"


class Format(StrEnum):
    """The form that export writes."""

    safetensors = "safetensors"
    transformers = "transformers"
    transformers_pack = "transformers-pack"
    peft = "peft"
    onnx = "onnx"
    gguf = "gguf"
    files = "files"


class Weights(StrEnum):
    """Where the weights of an ONNX graph are."""

    file = "file"
    none = "none"


Pack = Annotated[
    str,
    typer.Argument(metavar="PACK", help="The pack: a .lotta.safetensors file, or a reference as for lottapack pull."),
]
PackFile = Annotated[Path, typer.Argument(metavar="PACK", help="The pack, a .lotta.safetensors file.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="REFERENCE",
        help="owner/name[@revision], http(s)://host/owner/name[@revision] of another server, or "
        "oci://host/repository:tag (or @sha256:...).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; the exit code is the result.")]
Dtype = Annotated[
    str | None,
    typer.Option(
        parser=_floating,
        metavar="DTYPE",
        help="Convert the weights to float32, bfloat16 or float16; by default they keep their dtype.",
    ),
]
ExportDtype = Annotated[
    str | None,
    typer.Option(
        parser=_exported,
        metavar="DTYPE",
        help="Convert the weights to float32, bfloat16 or float16, or for gguf q8_0; by default they keep their dtype.",
    ),
]
StoredDtype = Annotated[
    str | None,
    typer.Option(
        parser=_narrow,
        metavar="DTYPE",
        help="Store float32 tensors that were trained, including adapters, as float16 or bfloat16.",
    ),
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Log to standard error; -vv logs more.")
]
All = Annotated[bool, typer.Option("--all", help="List every item on its own line.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="The device that generates the weights, such as cuda.")]
MaxBytes = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="The largest model to accept, in bytes; by default the free memory."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="PACKAGE",
        help="A package whose code you trust, if the pack needs to import it; can be repeated.",
    ),
]

Root = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="The registry's folder; by default ./registry.")
]


def root_of(context: typer.Context, root: Path | None) -> Path:
    """Return the registry's folder, named after a command or before it (``serve --root DIR token list``)."""
    return root or context.obj or Path("registry")


def integers(text: str, option: str) -> tuple[int, ...]:
    """Return the numbers that an option lists."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: expected numbers separated by commas") from None


def examples(*commands: str) -> str:
    """Return the end of a command's help; the backspace makes click keep its line breaks."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])
