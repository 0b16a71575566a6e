"""``lottapack inspect``."""

from lottapack_cli.options import All, Json, Pack, Quiet, Verbose, examples
from lottapack_cli.render import Output
from lottapack_cli.sources import located

EXAMPLES = examples(
    "lottapack inspect model.lotta.safetensors --all",
    "lottapack inspect model.lotta.safetensors --json | jq .seed",
    "lottapack inspect my-org/digits@v1",
)


def command(pack: Pack, every: All = False, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0) -> None:
    """Show a pack's architecture, seed and layers.

    Reads only the header and the betas. Layers that differ only in their number share a line.
    """
    from lottapack.reports.inspection import inspect
    from lottapack_cli.views.inspect import view

    sink = Output(json=json, quiet=quiet, verbose=verbose)
    summary = inspect(located(pack, sink))
    sink.result(summary, lambda: view(summary, every=every))
