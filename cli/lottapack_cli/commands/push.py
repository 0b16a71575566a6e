"""``lottapack push``."""

import warnings
from typing import Annotated

import typer

from lottapack_cli.options import Allow, Json, MaxBytes, PackFile, Quiet, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

EXAMPLES = examples(
    "lottapack push model.lotta.safetensors my-org/digits --tag v1 --private",
    "lottapack push model.lotta.safetensors my-org/digits --dry-run",
    "lottapack push model.lotta.safetensors oci://127.0.0.1:5055/models/digits:v1",
)


def command(
    pack: PackFile,
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="owner/name, or oci://host/repository:tag.")],
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Name the new commit or image.")] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to this branch, created if missing (Hub only).")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and change nothing.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="The commit's title.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="For the model card, such as apache-2.0.")
    ] = None,
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="ID", help="For the model card; can be repeated.")
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", metavar="ID", help="For the model card; can be repeated.")
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            "--result",
            metavar="NAME=VALUE",
            help="What the model reached, for the model card, as in 'test accuracy=99.1 %'; can be repeated.",
        ),
    ] = None,
    modelpack: Annotated[
        bool,
        typer.Option("--modelpack", help="Add a manifest for ModelPack tools, under the tag TAG-modelpack (OCI only)."),
    ] = False,
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Verify a pack and send it to a registry.

    A Hub (the one that HF_ENDPOINT names) receives one commit with the pack, a model card, and PACK.sig if it exists.
    Files that the registry already has are not sent again. A broken pack is refused.
    """
    reached = dict(map(_result, results or ()))
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    with Bar("pushing", show=sink.human) as bar, warnings.catch_warnings(record=True) as caught:
        from lottapack.pushing import push

        warnings.simplefilter("ignore")
        warnings.filterwarnings(
            "always", "Warnings while validating metadata"
        )  # the registry's warnings about the card
        result = push(
            pack,
            reference,
            tag=tag,
            branch=branch,
            private=private,
            dry_run=dry_run,
            message=message,
            license=licence,
            datasets=tuple(datasets or ()),
            metrics=tuple(metrics or ()),
            results=reached,
            modelpack=modelpack,
            max_bytes=max_bytes,
            allow=allow or (),
            progress=bar.sized,
        )
    for warning in caught:
        sink.warn(str(warning.message))
    from lottapack_cli.views.registry import pushed

    sink.result(result, lambda: pushed(result))


def _result(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name.strip() and sign and value.strip()):
        raise typer.BadParameter(f"--result {text!r} should be a name, = and a value, as in 'test accuracy=99.1 %'")
    return name.strip(), value.strip()
