"""``lottapack pack``."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Allow, Generator, Json, Quiet, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack pack checkpoint-500/    (a folder of the Hugging Face Trainer; writes checkpoint-500.lotta.safetensors)",
    "lottapack pack adapter/ -o model.lotta.safetensors    (a folder that PEFT saved)",
    "lottapack pack merged/ --from-merged --seed 42 --max-rank 16",
)

_NORMAL = "normal16"


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
    rng: Annotated[
        Generator, typer.Option(help="torch-cpu: the model was built under torch.manual_seed, not by lottapack.")
    ] = Generator.philox,
    seed: Annotated[
        int | None, typer.Option(help="The model's seed, where no recipe tells it.", show_default=False)
    ] = None,
    arch: Annotated[
        Path | None,
        typer.Option(
            metavar="ARCH",
            help="The model's architecture, where no recipe tells it: a folder with a transformers config.json, or a "
            "JSON file; by default the checkpoint's folder.",
            show_default=False,
        ),
    ] = None,
    from_merged: Annotated[
        bool, typer.Option("--from-merged", help="Find beta and adapters in merged weights, given the seed.")
    ] = False,
    max_rank: Annotated[
        int | None, typer.Option(min=1, metavar="R", help="The largest rank to look for.", show_default=False)
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="T",
            help="The largest relative error of a layer; by default what rounding to its dtype explains.",
            show_default=False,
        ),
    ] = None,
    distribution: Annotated[
        str, typer.Option(metavar="ID", help="That of the scaffold whose merged weights these are.")
    ] = _NORMAL,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack a trained checkpoint into one small file.

    The checkpoint comes from a model of lottapack.scaffold() or init_backbone_(), or is a PEFT adapter on one.
    Without a recipe: --rng torch-cpu for models that torch drew itself, --from-merged for merged weights.
    An existing pack is replaced in one step, at the end.
    """
    torch_cpu = rng is Generator.torch_cpu
    _check(torch_cpu, from_merged, seed, arch, max_rank, tolerance, distribution, base)
    sink = Output(json=json, quiet=quiet)
    target = output or beside(checkpoint)
    trusted = allow or ()
    with Bar("packing", show=sink.human) as bar, warnings.catch_warnings(record=True) as caught:
        import lottapack

        warnings.simplefilter("ignore")
        warnings.simplefilter("always", lottapack.BackboneChangedWarning)
        if torch_cpu:
            result = lottapack.pack_torch_cpu(
                checkpoint, target, seed=seed or 0, architecture=arch, allow=trusted, progress=bar
            )
        elif from_merged:
            result = lottapack.pack_merged(
                checkpoint,
                target,
                seed=seed or 0,
                max_rank=max_rank or 1,
                tolerance=tolerance,
                architecture=arch,
                distribution=distribution,
                allow=trusted,
                progress=bar,
            )
        else:
            result = lottapack.pack(checkpoint, target, base=base, allow=trusted, progress=bar)
    for warning in caught:
        sink.warn(str(warning.message))
    from lottapack_cli.views.pack import view

    sink.result(result, lambda: view(result))


def _check(
    torch_cpu: bool,
    from_merged: bool,
    seed: int | None,
    arch: Path | None,
    max_rank: int | None,
    tolerance: float | None,
    distribution: str,
    base: Path | None,
) -> None:
    """Options that need one another, or exclude one another."""
    if torch_cpu and from_merged:
        raise typer.BadParameter("choose --rng torch-cpu or --from-merged")
    if (torch_cpu or from_merged) and seed is None:
        raise typer.BadParameter("--rng torch-cpu and --from-merged need --seed")
    if from_merged and max_rank is None:
        raise typer.BadParameter("--from-merged needs --max-rank")
    if not (torch_cpu or from_merged) and (seed is not None or arch is not None):
        raise typer.BadParameter("--seed and --arch go with --rng torch-cpu or --from-merged; a recipe tells both")
    if not from_merged and (max_rank is not None or tolerance is not None or distribution != _NORMAL):
        raise typer.BadParameter("--max-rank, --tolerance and --distribution go with --from-merged")
    if (torch_cpu or from_merged) and base is not None:
        raise typer.BadParameter("--base goes with a PEFT adapter on a backbone that lottapack drew")


def beside(checkpoint: Path) -> Path:
    """Where a pack goes: ``last.pt`` gives ``last.lotta.safetensors`` beside it, ``run/`` ``run.lotta.safetensors``."""
    place = checkpoint.resolve()
    return place.with_name(f"{place.name if place.is_dir() else place.stem}.lotta.safetensors")
