"""``lottapack export``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import (
    Allow,
    Device,
    ExportDtype,
    Format,
    Json,
    MaxBytes,
    Pack,
    Quiet,
    Verbose,
    Weights,
    examples,
)
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
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR_OR_FILE", help="The file or folder to write.")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="safetensors: one file. transformers: a folder of full weights. transformers-pack: a folder with the "
            "pack itself, from which from_pretrained rebuilds the model. peft: an adapter for PEFT, and its base. "
            "onnx: the graph of the model, with or without its weights. gguf: a Llama for "
            "llama.cpp. files: only the tokenizer and other files that the pack contains.",
        ),
    ] = Format.safetensors,
    dtype: ExportDtype = None,
    device: Device = "cpu",
    scaffold: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which of the pack's scaffolds to use; by default the one of its main seed."),
    ] = None,
    max_shard_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Largest file of weights, such as 5GB. Larger checkpoints become a folder of shards with an index. "
            "The default is 5GB for a folder, and unlimited for a file.",
        ),
    ] = None,
    weights: Annotated[
        Weights | None,
        typer.Option(
            help="With onnx: a file beside the graph (the default), or none: the graph takes its weights from a pack, "
            "which is written beside it with the graph inside."
        ),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="With onnx: an example input, .npy, .npz, .pt or .safetensors; most models need none.",
        ),
    ] = None,
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Export full weights, or files that other tools open.

    The same pack gives the same file on every device.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    if form.value == "onnx":
        if device != "cpu" or max_shard_size is not None:
            raise typer.BadParameter("--device and --max-shard-size are not valid with --format onnx")
        _graph(sink, located(pack, sink), output, weights, inputs, dtype, scaffold, max_bytes, allow)
        return
    if weights is not None or inputs is not None:
        raise typer.BadParameter("--weights and --input are for --format onnx")
    source = located(pack, sink)
    with Bar("exporting", show=sink.human) as bar, sink.telling_what_is_left_out():
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


def _graph(
    sink: Output,
    pack: Path,
    output: Path,
    weights: Weights | None,
    inputs: Path | None,
    dtype: ExportDtype,
    scaffold: str | None,
    max_bytes: int | None,
    allow: list[str] | None,
) -> None:
    from lottapack import onnx
    from lottapack.limits import size_text

    path = onnx.export(
        pack,
        output,
        weights="file" if weights is None else weights.value,
        inputs=inputs,
        dtype=dtype,
        scaffold=scaffold,
        max_bytes=max_bytes,
        allow=allow or (),
    )
    size = path.stat().st_size
    sink.result({"path": path, "size": size}, lambda: [f"exported {path}  {size_text(size)}"])
