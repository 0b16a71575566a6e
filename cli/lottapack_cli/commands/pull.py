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
        typer.Option(
            "--output",
            "-o",
            metavar="FILE_OR_DIR",
            help="Also copy the pack there, and its signature.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Also rebuild the full checkpoint there.", show_default=False),
    ] = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Bring a pack into the cache, checked.

    Its size and SHA-256 must be what the registry says, and its own hashes must hold; a file that differs is removed
    and fetched once more. For the Hub, HF_ENDPOINT, HF_TOKEN, HF_HOME (where the cache is) and HF_HUB_OFFLINE=1 (ask no
    server) mean what they mean for every client. --export writes a folder that from_pretrained opens, or
    DIR/model.safetensors if the pack holds no transformers model.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    with Bar("pulling", show=sink.human) as bar:
        from lottapack.registry import pull

        result = pull(reference, output=output, progress=bar.sized)
    exported = None if export is None else _export(result.path, export, allow or [], sink)
    from lottapack_cli.views.registry import pulled

    sink.result({**plain(result), "exported": exported}, lambda: pulled(result, exported))


def _export(pack: Path, folder: Path, allow: list[str], sink: Output) -> Path:
    with Bar("exporting", show=sink.human) as bar:
        from lottapack.exporting.export import Format, export
        from lottapack.reports.inspection import inspect

        whole = inspect(pack).family == "transformers"
        # The slash says that it is to be a folder.
        form: Format = "transformers" if whole else "safetensors"
        return export(pack, f"{folder}/", format=form, allow=allow, progress=bar)
