"""``lottapack verify``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.errors import CHECK_FAILED
from lottapack_cli.options import All, Allow, Device, Json, MaxBytes, Pack, Quiet, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack verify model.lotta.safetensors --quiet && echo intact",
    "lottapack verify model.lotta.safetensors --key them.pub",
    "lottapack verify cfc.lotta.safetensors --allow ncps",
)


def command(
    pack: Pack,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY.pub", help="Also check the signature PACK.sig: by this public key.", show_default=False
        ),
    ] = None,
    device: Device = "cpu",
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    every: All = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check hashes, rebuilt weights, architecture.

    With a key also the signature beside the pack.

    Hashes and weights need no code of the model; its architecture is checked too where the code it asks for is
    installed, and allowed with --allow where it is no library that lottapack knows. Exit code 1 if a check failed,
    2 if the file is not a pack at all.
    """
    sink = Output(json=json, quiet=quiet)
    with Bar("verifying", show=sink.human) as bar:
        from lottapack.reports.verification import verify

        outcome = verify(pack, key=key, device=device, max_bytes=max_bytes, allow=allow or (), progress=bar)
    from lottapack_cli.views.verify import record, view

    sink.result(record(outcome), lambda: view(outcome, every=every))
    if not outcome.ok:
        raise typer.Exit(CHECK_FAILED)
