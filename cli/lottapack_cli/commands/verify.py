"""``lottapack verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottapack.errors import LottapackError
from lottapack_cli import errors
from lottapack_cli.errors import CHECK_FAILED
from lottapack_cli.options import All, Allow, Device, Json, MaxBytes, Quiet, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output
from lottapack_cli.sources import located

if TYPE_CHECKING:
    from collections.abc import Callable

    from lottapack.reports.verification import Verification
    from lottapack_cli.views.verify import Checked

EXAMPLES = examples(
    "lottapack verify packs/*.lotta.safetensors --quiet && echo intact",
    "lottapack verify model.lotta.safetensors --key them.pub",
    "lottapack verify cfc.lotta.safetensors --allow ncps",
)


def command(
    pack: Annotated[
        list[str],
        typer.Argument(
            metavar="PACK...", help="The packs: .lotta.safetensors files, or references as for lottapack pull."
        ),
    ],
    key: Annotated[
        Path | None, typer.Option(metavar="KEY.pub", help="Also check the signature PACK.sig with this public key.")
    ] = None,
    device: Device = "cpu",
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    every: All = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Check hashes, rebuilt weights and architecture.

    With --key, also check the signature next to the pack.

    Hashes and weights are checked without the model's code. The architecture is checked if the code that it needs is
    installed, and allowed with --allow if it is not a library that lottapack knows. The exit code is 1 if a check
    failed, 2 if the file is not a pack. With several packs, each is checked, and the exit code is the largest of
    theirs.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    from lottapack_cli.views import verify as views

    def check(name: str) -> "Verification":
        path = located(name, sink)
        with Bar("verifying", show=sink.human) as bar:
            from lottapack.reports.verification import verify

            return verify(path, key=key, device=device, max_bytes=max_bytes, allow=allow or (), progress=bar)

    if len(pack) == 1:
        outcome = check(pack[0])
        sink.result(outcome, lambda: views.view(outcome, every=every), ok=outcome.ok)
        code = CHECK_FAILED * (not outcome.ok)
    else:
        several = [_one_of_several(name, check, sink, every) for name in pack]
        code = max(one.exit_code for one in several)
        records = [views.record_of(one) for one in several]
        sink.result({"packs": records}, lambda: [views.counted(several)], ok=not code)
    if code:
        raise typer.Exit(code)


def _one_of_several(pack: str, check: "Callable[[str], Verification]", sink: Output, every: bool) -> "Checked":
    """Check a pack and show the outcome, without stopping at an error."""
    from lottapack_cli.views.verify import OPTIONS, Checked, view_of

    found = errors.attempted(lambda: check(pack))
    if isinstance(found, LottapackError):
        checked = Checked(pack, errors.exit_code(found), error=errors.record(found, OPTIONS))
        sink.complain(errors.in_options(str(found), OPTIONS))
    else:
        checked = Checked(pack, CHECK_FAILED * (not found.ok), found)
    sink.show(*view_of(checked, every=every))
    return checked
