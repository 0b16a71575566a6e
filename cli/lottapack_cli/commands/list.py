"""``lottapack list``."""

from typing import Annotated

import typer

from lottapack_cli.options import Json, Quiet, Verbose, examples
from lottapack_cli.render import Output

EXAMPLES = examples("lottapack list my-org", "lottapack list oci://127.0.0.1:5055/models --json")


def command(
    owner: Annotated[
        str,
        typer.Argument(
            metavar="OWNER",
            help="A user or organisation, http(s)://host/owner of another server, or oci://host[/prefix].",
        ),
    ],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """List the repositories of an owner that contain packs."""
    from lottapack.registry import list_packs
    from lottapack_cli.views.registry import listed

    sink = Output(json=json, quiet=quiet, verbose=verbose)
    found = list_packs(owner)
    sink.result({"owner": owner, "packs": found}, lambda: listed(owner, found))
