"""Send packs to registries: check them, describe them in a model card, and upload them."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from lottapack.errors import IntegrityError, InvalidReferenceError, Problem, SignatureError
from lottapack.files.links import require_own_file
from lottapack.format.container import PACK_END, SIGNATURE_END
from lottapack.progress import Progress
from lottapack.registry.answers import name_fault
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
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
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
        path: the pack, ``*.lotta.safetensors``; ``<path>.sig`` beside it is sent too.
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
        FormatError, IntegrityError: the pack is damaged; nothing was sent.
        SignatureError: its signature is a link to somewhere else.
        InvalidReferenceError: the reference is not valid.
        NetworkError, AccessError, NotFoundError, ConflictError: the registry refused or failed.

    Source:
        spec/v1/oci.md for images; the Hub's own protocol for repositories.

    Examples:
        >>> pushed = lottapack.push("model.lotta.safetensors", "my-org/digits", tag="v1")
        >>> pushed.reference, pushed.created
        ('my-org/digits@v1', True)
    """
    target = parse_remote(reference)
    pack = Path(path)
    _refuse_broken(pack, max_bytes, allow)
    reached = tuple((name, str(value)) for name, value in (results or {}).items())
    options = PushOptions(
        tag, branch, private, dry_run, message, license, tuple(datasets), tuple(metrics), reached, modelpack
    )
    if isinstance(target, HubReference):
        from lottapack.pushing import hub

        return hub.push(pack, target, options, progress)
    from lottapack.pushing import oci

    return oci.push(pack, target, options, progress)


def _refuse_broken(path: Path, max_bytes: int | None, allow: str | Iterable[str]) -> None:
    """Raise the errors of a pack that is about to be sent."""
    if path.is_file() and not path.name.endswith(PACK_END):
        hint = f"Rename it to {path.name.split('.')[0]}{PACK_END}, so that readers find it."
        raise InvalidReferenceError(f"{path}: the name of a pack in a registry must end in {PACK_END}", hint=hint)
    fault = name_fault(path.name + SIGNATURE_END)
    if fault:
        raise InvalidReferenceError(f"{path}: not every system allows this file name: {fault}", hint="Rename it.")
    require_own_file(path.with_name(path.name + SIGNATURE_END), error=SignatureError)
    from lottapack.reports.verification import verify

    outcome = verify(path, max_bytes=max_bytes, allow=allow, build=False)  # pack() has already built the model
    failed = [Problem(check.what, check.where, check.detail) for check in outcome.checks if check.status == "failed"]
    if failed:
        raise IntegrityError(str(path), failed, hint="Nothing was sent. Pack the checkpoint again.")
