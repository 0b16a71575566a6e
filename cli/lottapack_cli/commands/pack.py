"""``lottapack pack``."""

import json as json_
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lottapack_cli.options import Allow, Generator, Json, Quiet, StoredDtype, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack pack checkpoint-500/    (a folder of the Hugging Face Trainer; writes checkpoint-500.lotta.safetensors)",
    "lottapack pack adapter/ --stored-dtype fp16 --coding int8-block64 --max-error 0.05    (a folder that PEFT saved)",
    "lottapack pack merged/ --from-merged --seed 42 --max-rank 16",
)

_NORMAL = "normal16"


def command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A state_dict (.safetensors, .pt, .pth, .bin, .ckpt, .tar, or a folder) or a PEFT adapter's folder.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PACK",
            help="The pack to write; by default NAME.lotta.safetensors next to the checkpoint.",
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK", help="For a PEFT adapter: the pack of its base; by default the one next to the adapter."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which model to pack if the checkpoint contains several: its key, such as state_dict_ema, or its "
            "module.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave out tensors that the model does not have, by name, module or pattern, such as classifier or "
            "'criterion.*'; without this option they are refused. Can be repeated.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A JSON list of scores that the pack carries: objects with task, dataset, metric and score; also "
            "split, deviation, seeds, rank, full, chance.",
        ),
    ] = None,
    rng: Annotated[
        Generator, typer.Option(help="torch-cpu: the model was built under torch.manual_seed, not by lottapack.")
    ] = Generator.philox,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The model's seed, if the checkpoint has no recipe.")
    ] = None,
    arch: Annotated[
        Path | None,
        typer.Option(
            metavar="ARCH",
            help="The model's architecture, if the checkpoint has no recipe: a folder with a transformers "
            "config.json, or a JSON file; by default the checkpoint's folder.",
        ),
    ] = None,
    from_merged: Annotated[
        bool, typer.Option("--from-merged", help="Find beta and adapters in merged weights, given the seed.")
    ] = False,
    max_rank: Annotated[int | None, typer.Option(min=1, metavar="R", help="The largest rank to look for.")] = None,
    stored_dtype: StoredDtype = None,
    coding: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[GROUP=]ID",
            help="Store tensors as trellis8 (by default all large ones; trellis8@0.01 sets the error), int8-block64 "
            "or normal4-block64 (8 or 4 bits; by default the embeddings) or planes-zlib (lossless; by default "
            "all). GROUP: adapters, embeddings, heads, norms, biases, buffers, rest, * or a pattern of tensor names "
            "such as layers.5.*. Can be repeated.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="T",
            help="With --from-merged: the largest relative error of a layer, in Frobenius norms; by default the "
            "error that rounding to its dtype causes.",
        ),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="E",
            help="The largest root mean square error of a tensor, relative to its root mean square. trellis8 aims at "
            "it (without --coding, for all large tensors); other codings that exceed it are refused.",
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The largest size of the pack, such as 16MB or 15MiB; the error is as small as this size permits.",
        ),
    ] = None,
    allow_nonfinite: Annotated[
        bool,
        typer.Option(
            "--allow-nonfinite", help="Accept NaN and infinity in trained tensors; by default they are refused."
        ),
    ] = False,
    files: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Add the tokenizer, chat template and processor of this folder; by default of the checkpoint's "
            "folder.",
        ),
    ] = None,
    no_files: Annotated[bool, typer.Option("--no-files", help="Do not add such files.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="INPUTS",
            help="Run the trained model and the packed one, unmerged and merged, on these inputs, and refuse a pack "
            "whose outputs differ. A .pt, .safetensors, .npy or .npz file with a tensor or arguments by name.",
        ),
    ] = None,
    distribution: Annotated[
        str, typer.Option(metavar="ID", help="The distribution of the scaffold that these weights were merged from.")
    ] = _NORMAL,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Pack a trained checkpoint into one small file.

    The checkpoint comes from a model of lottapack.scaffold() or init_backbone_(), or is a PEFT adapter on one.
    Without a recipe, use --rng torch-cpu for models that torch itself initialised, or --from-merged for merged weights.
    An existing pack is replaced in one step, at the end.
    """
    torch_cpu = rng is Generator.torch_cpu
    seeded = torch_cpu or from_merged
    _refuse_first(
        {
            "choose --rng torch-cpu or --from-merged": torch_cpu and from_merged,
            "--rng torch-cpu and --from-merged need --seed": seeded and seed is None,
            "--from-merged needs --max-rank": from_merged and max_rank is None,
            "--seed and --arch are only valid with --rng torch-cpu or --from-merged; the recipe contains both": (
                not seeded and (seed is not None or arch is not None)
            ),
            "--tolerance is only valid with --from-merged; --max-error limits the error of a coding": (
                not from_merged and tolerance is not None
            ),
            "--max-rank and --distribution are only valid with --from-merged": (
                not from_merged and (max_rank is not None or distribution != _NORMAL)
            ),
            "--base is only valid for a PEFT adapter on a backbone that lottapack generated": (
                seeded and base is not None
            ),
            "--allow-nonfinite is not valid with --from-merged": from_merged and allow_nonfinite,
            "--check is only valid for a checkpoint with a recipe, or a PEFT adapter": seeded and check is not None,
            "choose --max-error or --max-size: --max-size determines the error itself": (
                max_error is not None and max_size is not None
            ),
            "choose --files or --no-files": files is not None and no_files,
        }
    )
    codings = _by_group(coding or [])
    scores = [] if results is None else _scores(results)
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    target = output or beside(checkpoint)
    trusted = allow or ()
    compared = None
    if check is not None:
        compared = partial(_compare, checkpoint, check, base=base, key=key, ignore=ignore, allow=trusted)
    with Bar("packing", show=sink.human) as bar, warnings.catch_warnings(record=True) as caught:
        import lottapack
        from lottapack.files.paths import path_of
        from lottapack.folders.reading import refuse_over_checkpoint

        path_of(target, "output")
        refuse_over_checkpoint(target, checkpoint)  # before what may take minutes
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", lottapack.errors.BackboneChangedWarning)
        warnings.simplefilter("always", lottapack.errors.UnusedOptionWarning)
        warnings.simplefilter("always", lottapack.errors.LeftOutWarning)
        compression = lottapack.Compression(stored_dtype, codings, max_error, max_size)
        source: Any = checkpoint
        reading: dict[str, Any] = {"key": key, "ignore": ignore or (), "allow": trusted}
        if torch_cpu:
            source = lottapack.recover.torch_cpu(checkpoint, seed=seed or 0, architecture=arch, **reading)
        elif from_merged:
            source = lottapack.recover.merged(
                checkpoint,
                seed=seed or 0,
                max_rank=max_rank or 1,
                tolerance=tolerance,
                architecture=arch,
                distribution=distribution,
                progress=bar,
                **reading,
            )
        result = lottapack.pack(
            source,
            target,
            base=base,
            compression=compression,
            allow_nonfinite=allow_nonfinite,
            files=files or not no_files,
            results=scores,
            check=compared,
            progress=bar,
            **(reading if source is checkpoint else {}),
        )
    for warning in caught:
        sink.warn(str(warning.message))
    from lottapack_cli.views.pack import view

    sink.result(result, lambda: view(result))


def _compare(checkpoint: Path, inputs: Path, new: Path, *, allow: Sequence[str], **how: Any) -> object:
    """Return the outputs of the checkpoint compared with those of the new pack."""
    from lottapack.comparing import compare, trained

    how = {name: value for name, value in how.items() if value is not None}
    return compare(trained(checkpoint, allow=allow, **how), new, inputs, allow=allow)


def _refuse_first(faults: Mapping[str, bool]) -> None:
    """Refuse options that lack another one, or exclude one another, by the first message that applies."""
    for message, applies in faults.items():
        if applies:
            raise typer.BadParameter(message)


def _by_group(given: list[str]) -> str | dict[str, str] | None:
    """Return the library's argument: one id for its default groups, or ids by group."""
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    found: dict[str, str] = {}
    for one in given:
        group, sign, name = one.rpartition("=")
        if not sign:
            raise typer.BadParameter(
                f"--coding {one}: with several codings, name the group of each, such as embeddings={one}"
            )
        if group in found:
            raise typer.BadParameter(f"--coding names {group} twice")
        found[group] = name
    return found or None


def _scores(path: Path) -> list[dict[str, Any]]:
    """Return the scores in a JSON file: a list of objects."""
    try:
        found: Any = json_.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise typer.BadParameter(f"--results {path}: cannot be read as JSON ({fault})") from fault
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise typer.BadParameter(f"--results {path}: expected a list of objects with task, dataset, metric and score")
    return found


def beside(checkpoint: Path) -> Path:
    """Return the pack's path, such as ``last.lotta.safetensors`` next to ``last.pt`` or to the folder ``last/``."""
    place = checkpoint.resolve()
    return place.with_name(f"{place.name if place.is_dir() else place.stem}.lotta.safetensors")
