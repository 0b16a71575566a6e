"""``lottapack report``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Json, Pack, Quiet, examples
from lottapack_cli.render import Output, plain

EXAMPLES = examples(
    "lottapack report model.lotta.safetensors",
    "lottapack report model.lotta.safetensors --against model.safetensors --plot sizes.svg",
    "lottapack report model.lotta.safetensors --markdown >> README.md",
)


def command(
    pack: Pack,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A real checkpoint to compare with.", show_default=False)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print GitHub Markdown.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="Draw the sizes into a .png or .svg file.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare a pack's size with full checkpoints.

    Reads the header only. Sizes of full checkpoints follow from the shapes; --against measures a real one.
    """
    if json and markdown:
        raise typer.BadParameter("choose --json or --markdown")
    from lottapack.reporting import report
    from lottapack_cli.views import report as views

    sink = Output(json=json, quiet=quiet)
    sizes = report(pack, against=against)
    if plot is not None:
        from lottapack_cli.plot import draw

        draw(sizes, plot)
    if markdown:
        sink.text(views.markdown(sizes))
        return
    sink.result({**plain(sizes), "plot": plot}, lambda: [*views.view(sizes), *([f"\ndrew {plot}"] if plot else [])])
