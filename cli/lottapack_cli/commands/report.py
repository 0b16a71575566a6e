"""``lottapack report``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Json, Quiet, Verbose, examples
from lottapack_cli.render import Output, plain
from lottapack_cli.sources import located

EXAMPLES = examples(
    "lottapack report model.lotta.safetensors --against model.safetensors --plot sizes.svg",
    "lottapack report model.lotta.safetensors --markdown >> README.md",
    "lottapack report --table --scale 30M    (packs the paper's Llama of that size, and compares)",
)


def command(
    packs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PACK",
            help="The pack: a file, or a reference as for lottapack pull. With --table, any number of packs.",
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An existing checkpoint to compare with.")
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="Compare packs with the paper's Table 10. Without packs, the paper's five Llamas are packed and "
            "measured (needs transformers, 1.3 GB of memory, and a minute or more).",
        ),
    ] = False,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="With --table and without packs: 3M, 30M, 300M, 600M or 900M. Can be repeated."
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print GitHub Markdown.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="PICTURE", help="Draw the sizes to a .png or .svg file.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare a pack's size with full checkpoints.

    Reads only the header. Sizes of full checkpoints are computed from the shapes; --against measures an existing one.
    """
    if json and markdown:
        raise typer.BadParameter("choose --json or --markdown")
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    if table:
        if against is not None or plot is not None or (packs and scale):
            raise typer.BadParameter(
                "--table is not valid with --against or --plot, and --scale is not valid with packs"
            )
        _table(sink, [located(pack, sink) for pack in packs or []], scale, markdown)
        return
    if scale or not packs or len(packs) > 1:
        raise typer.BadParameter("name one pack; --scale and several packs are only valid with --table")
    from lottapack.reports.reporting import report
    from lottapack_cli.views import report as views

    sizes = report(located(packs[0], sink), against=against)
    if plot is not None:
        from lottapack.files.output import refuse_over
        from lottapack_cli.plot import draw

        refuse_over(plot, sizes.path, *([] if against is None else [against]))
        draw(sizes, plot)
    if markdown:
        sink.text(views.markdown(sizes))
        return
    sink.result({**plain(sizes), "plot": plot}, lambda: [*views.view(sizes), *([f"\ndrew {plot}"] if plot else [])])


def _table(sink: Output, packs: list[Path], scales: list[str] | None, markdown: bool) -> None:
    from lottapack.reports.llamas import LLAMAS
    from lottapack.reports.size_table import compare, measure
    from lottapack_cli.progress import Bar
    from lottapack_cli.views import size_table as views

    if packs:
        rows = compare(packs)
    else:
        with Bar("packing Llamas", show=sink.human or markdown) as bar:
            rows = measure(scales or tuple(LLAMAS), progress=bar)
    if markdown:
        sink.text(views.markdown(rows))
    else:
        sink.result({"rows": rows}, lambda: views.view(rows))
