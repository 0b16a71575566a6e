"""``lottapack verify``."""

import typer

from lottapack_cli.errors import CHECK_FAILED
from lottapack_cli.options import All, Device, Json, MaxBytes, Pack, Quiet, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack verify model.lotta.safetensors",
    "lottapack verify model.lotta.safetensors --device cuda",
    "lottapack verify model.lotta.safetensors --quiet && echo intact",
)


def command(
    pack: Pack,
    device: Device = "cpu",
    max_bytes: MaxBytes = None,
    every: All = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check hashes, rebuilt weights, architecture.

    Exit code 1 if a check failed, 2 if the file is not a pack at all.
    """
    sink = Output(json=json, quiet=quiet)
    with Bar("verifying", show=sink.human) as bar:
        from lottapack.verification import verify

        outcome = verify(pack, device=device, max_bytes=max_bytes, progress=bar)
    from lottapack_cli.views.verify import record, view

    sink.result(record(outcome), lambda: view(outcome, every=every))
    if not outcome.ok:
        raise typer.Exit(CHECK_FAILED)
