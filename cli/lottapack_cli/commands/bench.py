"""``lottapack bench``."""

from typing import Annotated

import typer

from lottapack_cli.options import Device, Json, Quiet, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples("lottapack bench", "lottapack bench --virtual", "lottapack bench --device cuda --json > speed.json")


def command(
    device: Device = "cpu",
    elements: Annotated[int, typer.Option(min=1, metavar="N", help="Weights that each case generates per round.")] = 1
    << 25,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the result is their median.")] = 5,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Measure matrix products with weights that are never in memory.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Measure how fast this machine generates weights.

    Measures each distribution and dtype, and compares it with filling memory, torch.randn, cloning the same checkpoint
    from the page cache, and downloading it at 1 Gbit/s. Takes a few seconds.
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
