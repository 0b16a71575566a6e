"""``lottapack pull``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Allow, Json, Quiet, Reference, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output, plain

EXAMPLES = examples(
    "lottapack pull my-org/digits@v1 -o digits.lotta.safetensors",
    "lottapack pull my-org/digits@v1 --export digits-full/",
    "lottapack pull oci://127.0.0.1:5055/models/digits:v1 --json | jq -r .path",
)


def command(
    reference: Reference,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE_OR_DIR", help="Also copy the pack and its signature there."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Also rebuild the full checkpoint there.")
    ] = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Download a pack into the cache and verify it.

    Its size and SHA-256 must match the registry's, and its own hashes must match. A file that differs is removed
    and downloaded once more. --export writes a folder that from_pretrained opens, or DIR/model.safetensors if the pack
    does not contain a transformers model.

    The environment variables of the Hub's clients apply: HF_ENDPOINT, HF_TOKEN, HF_HOME (the cache's folder), and
    HF_HUB_OFFLINE=1 (only the cache).
    """
    if allow and export is None:
        raise typer.BadParameter("--allow is for --export, which builds the model")
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    with Bar("pulling", show=sink.human) as bar:
        from lottapack.registry import pull

        result = pull(reference, output=output, progress=bar.sized)
    exported = None if export is None else _export(result.path, export, allow or [], sink)
    from lottapack_cli.views.registry import pulled

    sink.result({**plain(result), "exported": exported}, lambda: pulled(result, exported))


def _export(pack: Path, folder: Path, allow: list[str], sink: Output) -> Path:
    with Bar("exporting", show=sink.human) as bar, sink.telling_what_is_left_out():
        from lottapack.exporting.export import Format, export
        from lottapack.reports.inspection import inspect

        whole = inspect(pack).family == "transformers"
        # The slash makes it a folder.
        form: Format = "transformers" if whole else "safetensors"
        return export(pack, f"{folder}/", format=form, allow=allow, progress=bar)
