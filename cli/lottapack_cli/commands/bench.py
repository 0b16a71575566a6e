"""``lottapack bench``."""

from typing import Annotated

import typer

from lottapack_cli.options import Json, Quiet, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples("lottapack bench", "lottapack bench --virtual", "lottapack bench --device cuda --json > speed.json")


def command(
    device: Annotated[str, typer.Option(metavar="DEVICE", help="Where weights are generated, such as cuda.")] = "cpu",
    elements: Annotated[int, typer.Option(min=1, metavar="N", help="Weights that each case writes in a round.")] = 1
    << 25,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds, of which the median counts.")] = 5,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Products with weights that are never in memory, beside those that are.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Measure how fast weights are rebuilt here.

    Each distribution and dtype, beside a fill of the memory, torch.randn, a clone of the same checkpoint out of the
    page cache, and its download at 1 Gbit/s. Takes some seconds.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    if virtual:
        _virtual(sink, device, elements, rounds)
        return
    with Bar("measuring", show=sink.human) as bar:
        from lottapack.reports.speed import bench

        report = bench(device=device, elements=elements, rounds=rounds, progress=bar)
    from lottapack_cli.views.bench import view

    sink.result(report, lambda: view(report))


def _virtual(sink: Output, device: str, elements: int, rounds: int) -> None:
    columns = max(1, round((elements / 4) ** 0.5))
    with Bar("measuring", show=sink.human) as bar:
        from lottapack.reports.speed_virtual import bench_virtual

        report = bench_virtual(device=device, shape=(4 * columns, columns), rounds=rounds, progress=bar)
    from lottapack_cli.views.bench import view_products

    sink.result(report, lambda: view_products(report))
