"""Signatures of packs, by the OpenSSF model-signing standard (spec: container, section 8). Needs no network.

The library does the cryptography. What is compared with the signed number is the file that is open, not what lies at
its path by then.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from lottapack.errors import IntegrityError, InvalidKeyError, Problem, SignatureError, UnsupportedError
from lottapack.files.output import atomic_file
from lottapack.format.container import SIGNATURE_END
from lottapack.format.packfile import PackFile, open_pack

_log = logging.getLogger(__name__)

_MOST = 1_000_000
"""Bytes of a signature or a key; real ones have a few thousand."""
_MAKE = {
    "private": "Make one: openssl ecparam -name prime256v1 -genkey -noout -out KEY",
    "public": "Make it of the private one: openssl ec -in KEY -pubout -out KEY.pub",
}
_ASK = "Do not use the pack before you have pack and signature from whoever signed it."


def signature_path(pack: str | PathLike[str]) -> Path:
    """Where the signature of a pack lies."""
    return Path(f"{fspath(pack)}{SIGNATURE_END}")


def sign(path: str | PathLike[str], key: str | PathLike[str], *, password: bytes | None = None) -> Path:
    """Check a pack and sign it; returns the path of the signature, ``<path>.sig``, which is replaced in one step.

    Args:
        path: the pack. Each hash in it is checked first.
        key: a private key in PEM, on one of the curves P-256, P-384 and P-521.
        password: of the key, if it is encrypted.

    Raises:
        FormatError, IntegrityError: it is no whole pack, and was not signed. InvalidKeyError, OutputError.
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
        # By its own path: the library takes no links, of which caches are full.
        manifest = library.hashing.Config().hash(Path(path).resolve())
        hashed, found = _files(manifest), pack.file_sha256()
        if hashed != [(".", "sha256", found)]:
            problem = Problem("sha256", "file", f"changed while it was signed: its SHA-256 was {found}, now {hashed}")
            raise IntegrityError(str(path), [problem], hint="Sign it again.")
        with atomic_file(target) as file:
            signer.set_hashing_config(_Instead(manifest)).sign(path, file.name)
    return target


def check_signature(pack: PackFile, key: str | PathLike[str]) -> str:
    """Check the signature beside an open pack with a public key; returns the signed SHA-256 of the file.

    Raises:
        SignatureError: it is missing, broken, by another key, or of another file. InvalidKeyError. UnsupportedError.
    """
    library, where = _library(), signature_path(pack.path)
    with _reading_key(key, "public"):
        verifier = library.verifying.Config().use_elliptic_key_verifier(public_key=Path(key))
    if not where.is_file():
        raise SignatureError(f"{pack.path} is not signed: there is no {where.name} beside it", hint=_ASK)
    if where.stat().st_size > _MOST:
        raise SignatureError(f"{where} is no signature: it has {where.stat().st_size:,} bytes", hint=_ASK)
    signed = _Signed()
    try:
        # An old form of signature makes the library print.
        with redirect_stdout(StringIO()):
            verifier.set_hashing_config(_Instead(signed)).verify(pack.path, where)
    except Exception as fault:
        if type(fault).__name__ == "InvalidSignature" or str(fault).startswith("Key mismatch"):
            raise SignatureError(f"{where} was not made with the key of {key}, or was changed", hint=_ASK) from fault
        raise SignatureError(f"{where} is no signature of a model: {_reason(fault)}", hint=_ASK) from fault
    found = pack.file_sha256()
    if signed.files != [(".", "sha256", found)]:
        shown = "; ".join(f"{name} {algorithm} {digest}" for name, algorithm, digest in signed.files[:3])
        raise SignatureError(
            f"{pack.path} was changed after it was signed, or {where.name} is another file's: its SHA-256 is {found}, "
            f"signed is {shown}",
            hint=_ASK,
        )
    return found


class _Instead:
    """Takes the place of the library's hashing of a path."""

    def __init__(self, manifest: Any) -> None:
        self._manifest = manifest

    def hash(self, *_: Any, **__: Any) -> Any:
        """What the library then signs, or compares with what is signed."""
        return self._manifest

    def add_ignored_paths(self, **_: Any) -> None:
        """A signature may name files of a folder that are left out; there is no folder."""


class _Signed:
    """Compared with the manifest whose signature was found to be right, it keeps what that says of the files."""

    files: tuple[()] | list[tuple[str, str, str]] = ()

    def __ne__(self, verified: Any) -> bool:
        self.files = _files(verified)
        return False


def _files(manifest: Any) -> list[tuple[str, str, str]]:
    """Name (``.`` for a file that is signed alone), algorithm and digest of each file in a manifest."""
    return [(f.identifier, f.digest.algorithm, f.digest.digest_hex) for f in manifest.resource_descriptors()]


def _library() -> Any:
    try:
        import model_signing
        from model_signing import hashing, signing, verifying  # noqa: F401 - it does not import them itself
    except ImportError as fault:
        what = f"signatures need model-signing, which cannot be imported: {fault}"
        raise UnsupportedError(what, hint="pip install 'lottapack[sign]'") from fault
    return model_signing


@contextmanager
def _reading_key(key: str | PathLike[str], kind: str) -> Iterator[None]:
    """Whatever the library raises on a file that is no such key becomes one typed error."""
    path = Path(key)
    try:
        if path.stat().st_size > _MOST:
            raise InvalidKeyError(f"{path} is no {kind} key: it has {path.stat().st_size:,} bytes", hint=_MAKE[kind])
        yield
    except InvalidKeyError:
        raise
    except Exception as fault:
        what, hint = f"{path} cannot be used as a {kind} key in PEM on P-256, P-384 or P-521", _MAKE[kind]
        if "password" in str(fault).lower():
            hint = "Give its password: in LOTTAPACK_KEY_PASSWORD, or sign(..., password=)."
        # The library takes the curve of any key, which one of RSA has not.
        reason = "it is of another kind" if isinstance(fault, AttributeError) else _reason(fault)
        raise InvalidKeyError(f"{what}: {reason}", hint=hint) from fault


def _reason(fault: Exception) -> str:
    said = (fault.strerror if isinstance(fault, OSError) else "") or str(fault)
    return " ".join(said.split())[:200] or type(fault).__name__
