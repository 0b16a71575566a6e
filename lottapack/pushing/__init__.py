"""Send packs to registries: check them, describe them in a model card, and upload them."""

import reprlib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

from lottapack.errors import IntegrityError, InvalidReferenceError, Problem, SignatureError, UnsupportedError
from lottapack.files.links import require_own_file
from lottapack.files.paths import path_of
from lottapack.flags import require_flags
from lottapack.format.container import PACK_END, SIGNATURE_END
from lottapack.progress import Progress, require_functions
from lottapack.registry import hub_client
from lottapack.registry.answers import name_fault
from lottapack.registry.integrity import MAX_SIGNATURE
from lottapack.registry.local import in_folder
from lottapack.registry.records import PushOptions, PushResult
from lottapack.registry.references import HubReference, parse_remote

__all__ = ["PushOptions", "PushResult", "push"]


def push(
    path: str | PathLike[str],
    reference: str,
    *,
    tag: str | None = None,
    branch: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    message: str | None = None,
    license: str | None = None,  # noqa: A002 - the card's own word
    datasets: str | Iterable[str] = (),
    metrics: str | Iterable[str] = (),
    results: Mapping[str, object] | None = None,
    modelpack: bool = False,
    max_bytes: int | None = None,
    allow: str | Iterable[str] = (),
    progress: Progress | None = None,
) -> PushResult:
    """Check a pack's hashes and fingerprints, and send it to a registry.

    A model card (Hub only) and the signature beside the pack are sent too. Files that the registry already has are not
    sent again.

    Args:
        path: the pack, ``*.lotta.safetensors``, or a folder that holds one; ``<path>.sig`` beside it is sent too.
        reference: ``owner/name`` or ``oci://host/repository[:tag]``.
        tag: the tag of the commit or image.
        branch: the branch to commit to (Hub only), created if missing.
        private: whether a repository that this push creates is private.
        dry_run: only return what would be sent; nothing is changed anywhere.
        message: the commit's title.
        license: for the model card, in the Hub's own terms, like the next two.
        datasets: names of datasets on the Hub.
        metrics: names of metrics.
        results: what the model reached, for a table of the card: ``{"test accuracy": "99.1 %"}``.
        modelpack: also put a manifest of the CNCF's ModelPack specification, under the tag ``<tag>-modelpack``
            (OCI only).
        max_bytes: as in verify().
        allow: as in verify(); only for packs of ``torch-cpu``, whose model is built to check its weights.
        progress: called with the bytes sent so far and in all.

    Raises:
        FormatError, IntegrityError: the pack is damaged, and nothing was sent; or its file was replaced meanwhile.
        SignatureError: its signature is a link to somewhere else.
        InvalidReferenceError: the reference is not valid, or `path` is a folder with several packs.
        NetworkError, AccessError, NotFoundError, ConflictError: the registry refused or failed.

    Source:
        spec/v1/oci.md for images; the Hub's own protocol for repositories.

    Examples:
        >>> pushed = lottapack.push("model.lotta.safetensors", "my-org/digits", tag="v1")
        >>> pushed.reference, pushed.created
        ('my-org/digits@v1', True)
    """
    require_functions(progress=progress)
    require_flags(private=private, dry_run=dry_run, modelpack=modelpack)
    target = parse_remote(reference)
    pack = in_folder(path_of(path, "path"))
    _require_texts(tag=tag, branch=branch, message=message, license=license)
    named = _names(datasets, "datasets"), _names(metrics, "metrics")
    options = PushOptions(tag, branch, private, dry_run, message, license, *named, _reached(results), modelpack)
    sha256 = _checked(pack, max_bytes, allow)
    if isinstance(target, HubReference):
        hub_client.require()
        from lottapack.pushing import hub

        return hub.push(pack, sha256, target, options, progress)
    from lottapack.pushing import oci

    return oci.push(pack, sha256, target, options, progress)


def _require_texts(**options: object) -> None:
    """Raise UnsupportedError for an option that is neither text nor None."""
    for name, value in options.items():
        if value is not None and not isinstance(value, str):
            raise UnsupportedError(f"{name}={reprlib.repr(value)} is not text", hint=f"Pass `{name}` as a string.")


def _names(names: str | Iterable[str], argument: str) -> tuple[str, ...]:
    """Return names as a tuple; a single one may come alone. Raises UnsupportedError."""
    found = (names,) if isinstance(names, str) else tuple(names) if isinstance(names, Iterable) else (None,)
    if not all(isinstance(name, str) for name in found):
        raise UnsupportedError(
            f"{argument}={reprlib.repr(names)} is not a list of names", hint=f"Pass `{argument}` as a list of strings."
        )
    return tuple(str(name) for name in found)


def _reached(results: Mapping[str, object] | None) -> tuple[tuple[str, str], ...]:
    if results is not None and not isinstance(results, Mapping):
        raise UnsupportedError(
            f"results={reprlib.repr(results)} is not a mapping",
            hint='Pass a dict, such as {"test accuracy": "99.1 %"}.',
        )
    return tuple((str(name), str(value)) for name, value in (results or {}).items())


def _checked(path: Path, max_bytes: int | None, allow: str | Iterable[str]) -> str:
    """Return the SHA-256 of the pack that was checked: no other file may be sent, if this one is replaced meanwhile.

    Raises the errors of a pack that is about to be sent.
    """
    if path.is_file() and not path.name.endswith(PACK_END):
        hint = f"Rename it to {path.name.split('.')[0]}{PACK_END}, so that readers find it."
        raise InvalidReferenceError(f"{path}: the name of a pack in a registry must end in {PACK_END}", hint=hint)
    fault = name_fault(path.name + SIGNATURE_END)
    if fault:
        raise InvalidReferenceError(f"{path}: not every system allows this file name: {fault}", hint="Rename it.")
    signature = path.with_name(path.name + SIGNATURE_END)
    require_own_file(signature, error=SignatureError)
    if signature.is_file() and signature.stat().st_size > MAX_SIGNATURE:
        raise SignatureError(
            f"{signature} is not a signature: it has {signature.stat().st_size:,} bytes, more than {MAX_SIGNATURE:,}",
            hint="Remove it, or sign the pack again. Nothing was sent.",
        )
    from lottapack.reports.verification import verify

    outcome = verify(path, max_bytes=max_bytes, allow=allow, build=False)  # pack() has already built the model
    failed = [Problem(check.what, check.where, check.detail) for check in outcome.checks if check.status == "failed"]
    if failed:
        raise IntegrityError(str(path), failed, hint="Nothing was sent. Pack the checkpoint again.")
    return outcome.sha256
