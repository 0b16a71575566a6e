"""Packs in OCI registries: pull, list and log (spec: oci); ``pushing.oci`` pushes."""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from lottapack.errors import AccessError, NetworkError, NotFoundError, RegistryError, UnsupportedError
from lottapack.progress import Progress
from lottapack.registry import oci_cache, oci_manifest
from lottapack.registry.oci_download import fetch
from lottapack.registry.oci_manifest import Blob
from lottapack.registry.records import Listed, LogEntry, PullResult
from lottapack.registry.references import OciReference, Owner

if TYPE_CHECKING:
    from lottapack.registry.oci_client import Client

_log = logging.getLogger(__name__)

DEFAULT_TAG = "latest"


def pull(reference: OciReference, progress: Progress | None) -> PullResult:
    """Bring a pack, and its signature, into the cache (see oci_cache). ``progress``: in bytes of the pack.

    Raises: see registry.pull().
    """
    source = _tagged(reference)
    with client_of(source, "pull") as client:
        manifest, digest = b"", source.digest
        if digest is None:
            try:
                manifest, digest = client.manifest(str(source.tag))
            except NetworkError as fault:
                known = oci_cache.recall(source)
                if known is None:
                    raise
                exact = OciReference(source.host, source.repository, digest=known)
                hint = f"When it was last pulled it was {known}, which is in the cache: pull {exact}."
                raise NetworkError(fault.message, hint=hint) from fault
        with oci_cache.locked(digest) as entry:
            image, received = entry.image(str(source)), 0
            if image is not None:
                _log.info("%s is in the cache: %s", source, entry.file(image.pack))
            else:
                manifest = manifest or client.manifest(digest)[0]
                image = oci_manifest.read(manifest, str(source))
                received = fetch(client, image, entry, str(source), progress)
                entry.complete(manifest)
            path = entry.file(image.pack)
        if source.tag:
            oci_cache.remember(source, digest)
    return PullResult(path, str(source), digest, image.pack.sha256, image.pack.size, received)


def log(reference: OciReference) -> list[LogEntry]:
    """The packs of a repository by their tags, in the order of the tags; with a tag or digest, that one.

    A registry keeps no history. Raises: NotFoundError, AccessError, NetworkError.
    """
    with client_of(reference, "pull") as client:
        name = reference.tag or reference.digest
        packs = _packs(client, [name] if name else client.tags())
        if not packs:
            raise NotFoundError(f"{reference}: no pack under any tag", hint="Push one: lottapack push.")
        names: dict[str, list[str]] = {}
        for tag, (digest, _) in packs.items():
            names.setdefault(digest, []).extend([] if tag == reference.digest else [tag])
        images = dict(packs.values())
        return [
            LogEntry(digest, tuple(tags), title=f"{images[digest].title} ({images[digest].size:,} bytes)")
            for digest, tags in names.items()
        ]


def list_packs(owner: Owner) -> list[Listed]:
    """The packs of a registry that one may read, by repository and tag, in those below ``owner.name``, or in all.

    Raises: UnsupportedError where the registry lists no repositories. AccessError, NetworkError.
    """
    host = owner.host or ""
    with client_of(OciReference(host, ""), None) as client:
        try:
            repositories = client.repositories()
        except NotFoundError as fault:
            hint = f"Name the repository: lottapack log oci://{host}/REPOSITORY lists its tags."
            raise UnsupportedError(f"{host} does not list its repositories", hint=hint) from fault
    found = []
    for name in repositories:
        if not owner.name or name == owner.name or name.startswith(f"{owner.name}/"):
            # Listed, and yet without a tag after a push that was interrupted, or not for everyone to read.
            with client_of(OciReference(host, name), "pull") as client, suppress(NotFoundError, AccessError):
                found += [Listed(str(OciReference(host, name, tag))) for tag in _packs(client, client.tags())]
    return found


def _packs(client: "Client", names: list[str]) -> dict[str, tuple[str, Blob]]:
    """The digest and the pack of each tag that is a pack's."""
    found = {}
    for name in names:
        raw, digest = client.manifest(name)
        try:
            found[name] = digest, oci_manifest.read(raw, f"{client.where}:{name}").pack
        except RegistryError:
            continue  # another kind of image, or a broken one: pull says why
    return found


def _tagged(reference: OciReference) -> OciReference:
    if reference.tag or reference.digest:
        return reference
    return OciReference(reference.host, reference.repository, DEFAULT_TAG)


def client_of(reference: OciReference, actions: str | None) -> "Client":
    """A client that may do that, ``pull`` or ``pull,push``. Raises UnsupportedError without the extra."""
    try:
        from lottapack.registry.oci_client import Client
    except ModuleNotFoundError as fault:
        if fault.name not in ("oras", "requests"):
            raise
        hint = "pip install 'lottapack[oci]'"
        raise UnsupportedError("OCI registries need the oras client, which is not installed", hint=hint) from fault
    return Client(reference, actions)
