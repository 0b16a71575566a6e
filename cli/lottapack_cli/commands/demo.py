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
            help="Keep the pack and the full checkpoint here; by default they are deleted.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Train, pack, push, pull and rebuild a model.

    A registry is started on a free port of this machine. A new process that has the address and nothing else pulls the
    pack and rebuilds the model; its weights and its test accuracy must be those of the trained one, bit for bit. Takes
    some seconds and no internet. Exit code 1 if anything rebuilt differs.
    """
    from lottapack_cli.demo.story import tell

    if not tell(Output(json=json, quiet=quiet, verbose=verbose), output):
        raise typer.Exit(CHECK_FAILED)
