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
    "lottapack pack adapter/    (a folder that PEFT saved)",
    "lottapack pack last.pt -o model.lotta.safetensors --json",
)


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A state_dict: .safetensors, .pt, .pth, .bin, .ckpt, or a folder; or the folder of a PEFT adapter.",
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
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK",
            help="For a PEFT adapter: the pack of its base; by default what lies beside the adapter.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack a trained checkpoint into one small file.

    The checkpoint comes from a model of lottapack.scaffold() or init_backbone_(), or is a PEFT adapter on one.
    An existing pack is replaced in one step, at the end.
    """
    sink = Output(json=json, quiet=quiet)
    with Bar("packing", show=sink.human) as bar, warnings.catch_warnings(record=True) as caught:
        import lottapack

        warnings.simplefilter("ignore")
        warnings.simplefilter("always", lottapack.BackboneChangedWarning)
        result = lottapack.pack(checkpoint, output or beside(checkpoint), base=base, progress=bar)
    for warning in caught:
        sink.warn(str(warning.message))
    from lottapack.limits import size_text

    sink.result(result, lambda: [f"packed {result.path}  {size_text(result.size)}", f"sha256 {result.sha256}"])


def beside(checkpoint: Path) -> Path:
    """Where a pack goes: ``last.pt`` gives ``last.lotta.safetensors`` beside it, ``run/`` ``run.lotta.safetensors``."""
    place = checkpoint.resolve()
    return place.with_name(f"{place.name if place.is_dir() else place.stem}.lotta.safetensors")
