"""``lottapack sign``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lottapack_cli.options import Json, PackFile, Quiet, Verbose, examples
from lottapack_cli.render import Output

EXAMPLES = examples("lottapack sign model.lotta.safetensors --key me.pem")


def command(
    pack: PackFile,
    key: Annotated[Path, typer.Option(metavar="KEY", help="A private key in PEM: P-256, P-384 or P-521.")],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Check a pack and sign it.

    The signature is written to PACK.sig in the format of OpenSSF model-signing; push and pull transfer it too. The
    password of an encrypted key is read from LOTTAPACK_KEY_PASSWORD. Whoever has the public key checks the signature
    with lottapack verify PACK --key KEY.pub. To make both keys: openssl ecparam -name prime256v1 -genkey -noout
    -out KEY, and openssl ec -in KEY -pubout -out KEY.pub.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    from lottapack.signing import sign

    password = os.environ.get("LOTTAPACK_KEY_PASSWORD")
    path = sign(pack, key, password=password.encode() if password else None)
    sink.result({"path": pack, "signature": path}, lambda: [f"signed {pack}  {path}"])
