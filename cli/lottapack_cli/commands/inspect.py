"""``lottapack inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack.errors import UnsupportedError
from lottapack_cli.options import All, Json, Pack, Quiet, Verbose, examples
from lottapack_cli.render import Output, plain
from lottapack_cli.sources import located

EXAMPLES = examples(
    "lottapack inspect model.lotta.safetensors --all",
    "lottapack inspect model.lotta.safetensors --json | jq .seed",
    "lottapack inspect my-org/digits@v1",
    "lottapack inspect model.lotta.safetensors --plot betas.svg",
)


def command(
    pack: Pack,
    every: All = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Draw beta, the backbone's factor, of each layer to a .png or .svg file."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show a pack's architecture, seed and layers.

    Reads only the header and the betas. Layers that differ only in their number share a line.
    """
    from lottapack.reports.inspection import inspect
    from lottapack_cli.views.inspect import view

    sink = Output(json=json, quiet=quiet, verbose=verbose)
    summary = inspect(located(pack, sink))
    if plot is not None:
        from lottapack.files.output import refuse_over
        from lottapack_cli.plot import draw_betas

        if not summary.betas():
            raise UnsupportedError(f"{summary.path} has no learned beta to draw", hint="Leave out --plot.")
        refuse_over(plot, summary.path)
        draw_betas(summary, plot)
    drawn = [] if plot is None else [f"\ndrew {plot}"]
    sink.result({**plain(summary), "plot": plot}, lambda: [*view(summary, every=every), *drawn])
