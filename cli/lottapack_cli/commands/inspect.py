"""``lottapack inspect``."""

from lottapack_cli.options import All, Json, Pack, Quiet, examples
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack inspect model.lotta.safetensors",
    "lottapack inspect model.lotta.safetensors --all",
    "lottapack inspect model.lotta.safetensors --json | jq .seed",
)


def command(pack: Pack, every: All = False, json: Json = False, quiet: Quiet = False) -> None:
    """Show a pack's architecture, seed and layers.

    Reads the header and the betas only. Layers that differ just in their number share a line.
    """
    from lottapack.reports.inspection import inspect
    from lottapack_cli.views.inspect import view

    summary = inspect(pack)
    Output(json=json, quiet=quiet).result(summary, lambda: view(summary, every=every))
