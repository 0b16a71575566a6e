"""``lottapack demo``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.errors import CHECK_FAILED
from lottapack_cli.options import Json, Quiet, Verbose, examples
from lottapack_cli.render import Output

EXAMPLES = examples("lottapack demo", "lottapack demo --output demo/")


def command(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Keep the pack and the full checkpoint in this folder; by default they are deleted.",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Train, pack, push, pull and rebuild a model.

    Starts a registry on a free port of this machine. A new process that knows only its address pulls the
    pack and rebuilds the model. Its weights and test accuracy must equal those of the trained model bit for bit. Takes
    a few seconds and needs no internet. The exit code is 1 if anything differs.
    """
    from lottapack_cli.demo.story import tell

    if not tell(Output(json=json, quiet=quiet, verbose=verbose), output):
        raise typer.Exit(CHECK_FAILED)
