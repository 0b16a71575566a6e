"""``lottapack run``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Allow, Dtype, Json, MaxBytes, Pack, Quiet, Verbose, examples, integers
from lottapack_cli.render import Output
from lottapack_cli.sources import located

EXAMPLES = examples(
    'lottapack run llama.lotta.safetensors --prompt "Once upon a time" --new 50',
    'lottapack run llama.lotta.safetensors --prompt "Once upon" --temperature 0.8 --top-p 0.9 --seed 1',
    "lottapack run llama.lotta.safetensors --tokens 1,42,7 --backbone blocks --max-bytes 200000000",
    "lottapack run digits.lotta.safetensors --input images.npy -o logits.npy",
)


def command(
    pack: Pack,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="The text to continue.")] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="IDS", help="The token ids to continue, such as 1,42,7.")
    ] = None,
    new: Annotated[int, typer.Option(min=1, metavar="N", help="The largest number of tokens to generate.")] = 32,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="T", help="Above 0, sample tokens; at 0, take the most likely one.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(max=1, metavar="P", help="Sample from the most likely tokens with this total probability.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="The seed for sampling.")] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The tokenizer; by default the one in the pack, or next to it."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="The input of a model that is not a language model: .npy, .npz, .pt or .safetensors.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file for its output.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="MODE", help="materialised, virtual or blocks; by default virtual if the pack's tables permit it."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="The device that runs the model, such as cuda.")
    ] = "cpu",
    dtype: Dtype = None,
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Generate tokens with a packed model, or compute its output.

    Its backbone need not be in memory: sign1 weights are generated in registers during use, others in blocks.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    ids = integers(tokens, "--tokens") if tokens is not None else ()
    if sum(one is not None for one in (prompt, tokens, inputs)) != 1:
        raise typer.BadParameter("name one of --prompt, --tokens and --input")
    from lottapack.running import run
    from lottapack_cli.views.run import view

    result = run(
        located(pack, sink),
        prompt=prompt,
        tokens=ids,
        new_tokens=new,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        tokenizer=tokenizer,
        inputs=inputs,
        output=output,
        backbone=backbone,
        device=device,
        dtype=dtype,
        max_bytes=max_bytes,
        allow=allow or (),
    )
    sink.result(result, lambda: view(result))
