"""``lottapack log``."""

from lottapack_cli.options import Json, Quiet, Reference, Verbose, examples
from lottapack_cli.render import Output

EXAMPLES = examples("lottapack log my-org/digits", "lottapack log oci://127.0.0.1:5055/models/digits --json")


def command(reference: Reference, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0) -> None:
    """Show what was pushed to a repository.

    Lists commits, newest first, with the tags and branches that point to each. For an OCI repository, lists its tags.
    """
    from lottapack.registry import history
    from lottapack_cli.views.registry import logged

    sink = Output(json=json, quiet=quiet, verbose=verbose)
    entries = history(reference)
    sink.result({"reference": reference, "entries": entries}, lambda: logged(entries))
