"""``lottapack export``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Allow, Dtype, Format, Json, MaxBytes, Pack, Quiet, Verbose, examples
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output
from lottapack_cli.sources import located

EXAMPLES = examples(
    "lottapack export model.lotta.safetensors -o model.safetensors",
    "lottapack export model.lotta.safetensors -o model/ --format transformers --dtype bfloat16 --max-shard-size 2GB",
    "lottapack export model.lotta.safetensors -o adapter/ --format peft",
)


def command(
    pack: Pack,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR_OR_FILE", help="The file or folder to write.", show_default=False),
    ],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="safetensors: one file. transformers: a folder of full weights. transformers-pack: a folder with the "
            "pack itself, which from_pretrained rebuilds. peft: an adapter for PEFT, and its base. "
            "files: the tokenizer and other files that the pack carries, alone.",
        ),
    ] = Format.safetensors,
    dtype: Dtype = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="Where weights are generated, such as cuda.")] = "cpu",
    scaffold: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="On which of the pack's scaffolds; by default on its main seed.", show_default=False
        ),
    ] = None,
    max_shard_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Largest file of weights, such as 5GB: larger checkpoints become a folder of shards with an index. "
            "By default 5GB for a folder, and none for a file.",
            show_default=False,
        ),
    ] = None,
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write full weights, or what other tools open.

    The same pack gives the same file on every device.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    source = located(pack, sink)
    with Bar("exporting", show=sink.human) as bar:
        from lottapack.exporting.export import export

        path = export(
            source,
            output,
            format=form.value,
            dtype=dtype,
            scaffold=scaffold,
            device=device,
            max_shard_size=max_shard_size,
            max_bytes=max_bytes,
            allow=allow or (),
            progress=bar,
        )
    from lottapack.folders.shards import size_of
    from lottapack.limits import size_text

    size = size_of(path)
    sink.result({"path": path, "size": size}, lambda: [f"exported {path}  {size_text(size)}"])
