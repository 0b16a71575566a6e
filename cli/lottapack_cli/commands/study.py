"""``lottapack study``."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from lottapack_cli.options import Json, Quiet, Verbose, examples, integers
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack study task:train",
    "lottapack study task:train --ranks 1,2,4,8 --seeds 5 --tolerance 0.005 --record study.jsonl --plot ranks.svg",
    "lottapack study task:train --build task:net --pretrained task:trained --workers 4 --json",
)


def command(
    function: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Your training function: (model, seed, rank) -> score. rank is None for full training.",
        ),
    ],
    build: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Returns the plain, untrained model for a seed; by default `build` of the same module.",
        ),
    ] = None,
    ranks: Annotated[str, typer.Option(metavar="N,N,...", help="The ranks to begin with.")] = "1,2,4,8,16,32",
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="How many seeds a decision needs.")] = 3,
    tolerance: Annotated[
        float, typer.Option(min=0.0, metavar="X", help="How far the score may stay behind full training.")
    ] = 0.01,
    minimise: Annotated[bool, typer.Option("--minimise", help="A smaller score is better, as for a loss.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Run all ranks with all seeds.")] = False,
    pretrained: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION", help="Returns a trained model for a seed; plain LoRA on it is run too."
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep each finished run here; a study that was killed continues."),
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes; -1 for one a core.")] = 1,
    plot: Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw the curve to a .png or .svg file.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table for a model card.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Find the rank that a task needs.

    It trains with several ranks and seeds, and says the smallest rank whose score is near that of full training.
    Modules are imported from the current folder too. Each finished run is kept in --record.
    """
    if json and markdown:
        raise typer.BadParameter("choose --json or --markdown")
    wanted = integers(ranks, "--ranks")
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    sys.path.insert(0, str(Path.cwd()))
    module = function.partition(":")[0]
    functions = [_function(name) for name in (function, build or f"{module}:build")]
    trained = None if pretrained is None else _function(pretrained)

    from lottapack.studying import study
    from lottapack_cli.views.study import view

    with Bar("studying", show=sink.human or markdown) as bar:
        found = study(
            *functions,
            ranks=wanted,
            seeds=seeds,
            tolerance=tolerance,
            maximise=not minimise,
            thorough=thorough,
            pretrained=trained,
            record=record,
            workers=workers,
            progress=lambda done, total: bar(done, total, f"{done} of {total} runs"),
        )
    if plot is not None:
        found.plot(plot)
    if markdown:
        sink.text(found.markdown())
        return
    sink.result({**found.to_dict(), "plot": plot}, lambda: [*view(found), *([f"\ndrew {plot}"] if plot else [])])


def _function(text: str) -> Callable[..., Any]:
    """Import a function of the user. An error in the user's own module is shown as it is."""
    module, sign, name = text.partition(":")
    if not (module and sign and name):
        raise typer.BadParameter(f"{text!r}: name a module and a function, such as task:train")
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as fault:
        if fault.name != module.partition(".")[0]:
            raise
        raise typer.BadParameter(
            f"{text!r}: cannot find the module {module} in the current folder or on Python's path"
        ) from fault
    for part in name.split("."):
        if not hasattr(found, part):
            raise typer.BadParameter(f"{text!r}: module {module} does not define {name}")
        found = getattr(found, part)
    if not callable(found):
        raise typer.BadParameter(f"{text!r} is not a function")
    function: Callable[..., Any] = found
    return function
