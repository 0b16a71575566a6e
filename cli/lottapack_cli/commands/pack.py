"""``lottapack pack``."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Json, Quiet, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack pack checkpoint-500/    (a folder of the Hugging Face Trainer; writes checkpoint-500.lotta.safetensors)",
    "lottapack pack model.safetensors -o model.lotta.safetensors",
    "lottapack pack last.pt -o model.lotta.safetensors --json",
)


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A state_dict of a scaffolded model: .safetensors, .pt, .pth, .bin, .ckpt, or a folder.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PACK",
            help="The pack to write; by default beside the checkpoint, as NAME.lotta.safetensors.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack a trained checkpoint into one small file.

    The checkpoint must come from a model of lottapack.scaffold(). An existing pack is replaced in one step, at the end.
    """
    sink = Output(json=json, quiet=quiet)
    with Bar("packing", show=sink.human) as bar, warnings.catch_warnings(record=True) as caught:
        import lottapack

        warnings.simplefilter("ignore")
        warnings.simplefilter("always", lottapack.BackboneChangedWarning)
        result = lottapack.pack(checkpoint, output or beside(checkpoint), progress=bar)
    for warning in caught:
        sink.warn(str(warning.message))
    from lottapack.limits import size_text

    sink.result(result, lambda: [f"packed {result.path}  {size_text(result.size)}", f"sha256 {result.sha256}"])


def beside(checkpoint: Path) -> Path:
    """Where a pack goes: ``last.pt`` gives ``last.lotta.safetensors`` beside it, ``run/`` ``run.lotta.safetensors``."""
    place = checkpoint.resolve()
    return place.with_name(f"{place.name if place.is_dir() else place.stem}.lotta.safetensors")
