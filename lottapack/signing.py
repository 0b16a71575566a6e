"""Sign packs and check signatures by the OpenSSF model-signing standard (spec: container, section 8).

Signing needs no network. The model-signing library does the cryptography. lottapack hashes the open file itself and
compares that with the signed hash, because the path may point to another file by then.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

from lottapack.errors import IntegrityError, InvalidKeyError, Problem, SignatureError
from lottapack.extras import require
from lottapack.files.output import atomic_file
from lottapack.files.paths import path_of
from lottapack.format.container import SIGNATURE_END
from lottapack.format.packfile import PackFile, open_pack

_log = logging.getLogger(__name__)

_MOST = 1_000_000
"""The most bytes of a signature or a key; real ones have a few thousand."""
_MAKE = {
    "private": "Create one: openssl ecparam -name prime256v1 -genkey -noout -out KEY",
    "public": "Create it from the private key: openssl ec -in KEY -pubout -out KEY.pub",
}
_ASK = "Do not use the pack before its signer has sent you the pack and its signature again."


def signature_path(pack: str | PathLike[str]) -> Path:
    """Return the path of a pack's signature."""
    return Path(f"{path_of(pack, 'path')}{SIGNATURE_END}")


def sign(path: str | PathLike[str], key: str | PathLike[str], *, password: bytes | None = None) -> Path:
    """Check a pack, sign it and return the path of the signature, ``<path>.sig``, which is replaced in one step.

    Args:
        path: the pack. Every hash in it is checked first.
        key: a private key in PEM, on one of the curves P-256, P-384 and P-521.
        password: the password of an encrypted key.

    Raises:
        FormatError, IntegrityError: the pack is not valid; nothing was signed.
        InvalidKeyError: the key cannot be read or is of another kind.
        OutputError: the signature cannot be written.
        UnsupportedError: model-signing is not installed.

    Source:
        The OpenSSF model-signing standard; spec/v1/container.md, section 8.

    Examples:
        >>> lottapack.sign("model.lotta.safetensors", "key.pem").name
        'model.lotta.safetensors.sig'
        >>> lottapack.verify("model.lotta.safetensors", key="key.pub").ok
        True
    """
    library, target = _library(), signature_path(path)
    with _reading_key(key, "private"):
        signer = library.signing.Config().use_elliptic_key_signer(private_key=Path(key), password=password)
    with open_pack(path) as pack:
        pack.check_tensors()
        # The library does not follow links, and files in caches are links.
        manifest = library.hashing.Config().hash(Path(path).resolve())
        hashed, sha256 = _files(manifest), pack.file_sha256()
        if hashed != [(".", "sha256", sha256)]:
            problem = Problem(
                "sha256", "file", f"changed while it was being signed: its SHA-256 was {sha256}, now it is {hashed}"
            )
            raise IntegrityError(str(path), [problem], hint="Sign it again.")
        with atomic_file(target) as file:
            signer.set_hashing_config(_Instead(manifest)).sign(path, file.name)
    return target


def check_signature(pack: PackFile, key: str | PathLike[str]) -> str:
    """Check the signature beside an open pack with a public key and return the signed SHA-256 of the file.

    Raises:
        SignatureError: the signature is missing, malformed, made with another key, or belongs to another file.
        InvalidKeyError: the key cannot be read or is of another kind.
        UnsupportedError: model-signing is not installed.
    """
    library, where = _library(), signature_path(pack.path)
    with _reading_key(key, "public"):
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=Path(key))
    if not where.is_file():
        raise SignatureError(f"{pack.path} is not signed: {where.name} does not exist beside it", hint=_ASK)
    if where.stat().st_size > _MOST:
        raise SignatureError(
            f"{where} is not a signature: it has {where.stat().st_size:,} bytes, more than {_MOST:,}", hint=_ASK
        )
    signed = _Signed()
    try:
        # The library prints when it meets an old kind of signature.
        with redirect_stdout(StringIO()):
            verifier.set_hashing_config(_Instead(signed)).verify(pack.path, where)
    except Exception as fault:
        if type(fault).__name__ == "InvalidSignature" or str(fault).startswith("Key mismatch"):
            raise SignatureError(
                f"{where} was not made with the private key of {key}, or was changed", hint=_ASK
            ) from fault
        raise SignatureError(f"{where} is not a model signature: {_reason(fault)}", hint=_ASK) from fault
    sha256 = pack.file_sha256()
    if signed.files != [(".", "sha256", sha256)]:
        shown = "; ".join(f"{name} {algorithm} {digest}" for name, algorithm, digest in signed.files[:3])
        raise SignatureError(
            f"{pack.path} was changed after it was signed, or {where.name} belongs to another file: its SHA-256 is "
            f"{sha256}, the signed one is {shown}",
            hint=_ASK,
        )
    return sha256


class _Instead:
    """Replaces the library's hashing of a path by a manifest that is already known."""

    def __init__(self, manifest: Any) -> None:
        self._manifest = manifest

    def hash(self, *_: Any, **__: Any) -> Any:
        """Return the manifest that the library signs, or compares with the signed one."""
        return self._manifest

    def add_ignored_paths(self, **_: Any) -> None:
        """Do nothing: a signature may list ignored files of a folder, but a pack is one file."""


class _Signed:
    """Records the files of the manifest that the library verified and compares with this object."""

    files: tuple[()] | list[tuple[str, str, str]] = ()

    def __ne__(self, verified: Any) -> bool:
        self.files = _files(verified)
        return False


def _files(manifest: Any) -> list[tuple[str, str, str]]:
    """Return the name (``.`` for a file that is signed alone), algorithm and digest of each file in a manifest."""
    return [(f.identifier, f.digest.algorithm, f.digest.digest_hex) for f in manifest.resource_descriptors()]


def _library() -> Any:
    library = require("model_signing", "sign", "a signature")
    for module in ("hashing", "signing", "verifying"):  # which it does not import itself
        require(f"model_signing.{module}", "sign", "a signature")
    return library


@contextmanager
def _reading_key(key: str | PathLike[str], kind: str) -> Iterator[None]:
    """Turn whatever the library raises on an unsuitable key file into InvalidKeyError."""
    path = path_of(key, "key")
    try:
        if path.stat().st_size > _MOST:
            raise InvalidKeyError(
                f"{path} is not a {kind} key: it has {path.stat().st_size:,} bytes, more than {_MOST:,}",
                hint=_MAKE[kind],
            )
        yield
    except InvalidKeyError:
        raise
    except Exception as fault:
        what, hint = f"cannot use {path} as a {kind} key in PEM on P-256, P-384 or P-521", _MAKE[kind]
        if "password" in str(fault).lower():
            hint = "Pass `password`, or set LOTTAPACK_KEY_PASSWORD for the command."
        # The library reads the curve of any key; RSA keys do not have one.
        reason = "it is of another kind" if isinstance(fault, AttributeError) else _reason(fault)
        raise InvalidKeyError(f"{what}: {reason}", hint=hint) from fault


def _reason(fault: Exception) -> str:
    said = (fault.strerror if isinstance(fault, OSError) else "") or str(fault)
    return " ".join(said.split())[:200] or type(fault).__name__
