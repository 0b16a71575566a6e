"""``lottapack run``."""

from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Allow, Dtype, Json, MaxBytes, Pack, Quiet, Verbose, examples
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
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Go on from this text.", show_default=False)
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="IDS", help="Or from these token ids: 1,42,7.", show_default=False)
    ] = None,
    new: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens to write at most.")] = 32,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="T", help="Above 0, draw tokens; at 0 take the most likely one.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(max=1, metavar="P", help="Draw from the likeliest tokens that have this probability.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the drawing.", show_default=False)] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The tokenizer; by default what lies beside the pack.", show_default=False),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="The input of another model: .npy, or .safetensors.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where its output goes.", show_default=False),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="materialised, virtual or blocks; by default virtual where the pack's tables allow it.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="Where it runs, such as cuda.")] = "cpu",
    dtype: Dtype = None,
    max_bytes: MaxBytes = None,
    allow: Allow = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Let a packed model write tokens or compute an output.

    Its backbone need not be in memory: sign1 weights are made in registers as they are used, others in blocks.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    ids = _numbers(tokens) if tokens is not None else ()
    if sum(one is not None for one in (prompt, tokens, given)) != 1:
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
        given=given,
        output=output,
        backbone=backbone,
        device=device,
        dtype=dtype,
        max_bytes=max_bytes,
        allow=allow or (),
    )
    sink.result(result, lambda: view(result))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--tokens {text!r}: token ids are numbers with commas between them") from None
