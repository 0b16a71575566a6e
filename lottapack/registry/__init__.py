"""Packs in registries: pull them verified, and list what is there. ``lottapack.pushing`` sends them.

The reference determines the registry: ``hub`` (a Hugging Face Hub or compatible server) or ``oci``. Neither module is
imported before it is needed.
"""

from os import PathLike

from lottapack.files.paths import path_of
from lottapack.progress import Progress, require_functions
from lottapack.registry import hub_client
from lottapack.registry.records import FileSize, Listed, LogEntry, PullResult, PushOptions, PushResult
from lottapack.registry.references import HubReference, OciReference, parse, parse_owner, parse_remote

__all__ = [
    "FileSize",
    "HubReference",
    "Listed",
    "LogEntry",
    "OciReference",
    "PullResult",
    "PushOptions",
    "PushResult",
    "history",
    "list_packs",
    "parse",
    "parse_remote",
    "pull",
]


def pull(reference: str, *, output: str | PathLike[str] | None = None, progress: Progress | None = None) -> PullResult:
    """Fetch a pack into the cache and check it: size and SHA-256 as the registry says, then its own hashes.

    A file that differs is removed and fetched once more. Files in the cache are not fetched again; a commit or digest
    in the cache does not need the network at all.

    Args:
        reference: ``owner/name[@revision]``, ``http(s)://host/owner/name[@revision]`` for another server (which does
            not get a token), or ``oci://host/repository:tag`` (or ``@sha256:...``).
        output: a file or an existing folder to which the pack and its signature are copied too. A file is replaced.
        progress: called with the bytes of the pack so far and in all.

    Raises:
        IntegrityError: the file differs twice; the message has both hashes.
        FormatError: the file is not a pack.
        InvalidReferenceError: the reference is not valid.
        LimitError: the pack does not fit on the disk.
        OutputError: the cache or the output cannot be written.
        NetworkError, AccessError, NotFoundError: the registry refused or failed.

    Source:
        spec/v1/oci.md and spec/v1/refusals.md.

    Examples:
        >>> pulled = lottapack.pull("my-org/digits@v1")
        >>> pulled.path.name
        'model.lotta.safetensors'
    """
    require_functions(progress=progress)
    if output is not None:
        path_of(output, "output")
    source = parse_remote(reference)
    if isinstance(source, HubReference):
        hub_client.require()
        from lottapack.registry import hub_pull

        pulled = hub_pull.pull(source, progress)
    else:
        from lottapack.registry import oci

        pulled = oci.pull(source, progress)
    if output is None:
        return pulled
    from lottapack.registry.placing import place

    return place(pulled, output)


def list_packs(owner: str) -> list[Listed]:
    """List the repositories of a user or organisation that contain a pack.

    Args:
        owner: ``my-org``; or ``oci://host[/prefix]``, for a registry that lists its repositories.

    Returns:
        The reference of each, and what the registry says about it.

    Raises:
        InvalidReferenceError: the text does not name an owner.
        RegistryError: the registry cannot be reached, refuses, or does not know the owner.
        UnsupportedError: the OCI registry does not list its repositories.

    Source:
        spec/v1/oci.md.

    Examples:
        >>> [listed.reference for listed in lottapack.list_packs("my-org")]
        ['my-org/digits']
    """
    whose = parse_owner(owner)
    if whose.host is None:
        hub_client.require()
        from lottapack.registry import hub

        return hub.list_packs(whose)
    from lottapack.registry import oci

    return oci.list_packs(whose)


def history(reference: str) -> list[LogEntry]:
    """List the commits of a repository, newest first, with the tags and branches of each; or the tags of an image.

    Args:
        reference: as in pull().

    Returns:
        A record for each commit or tag.

    Raises:
        InvalidReferenceError: the text is not a reference.
        RegistryError: the registry cannot be reached, refuses, or does not have the repository.

    Source:
        spec/v1/oci.md.

    Examples:
        >>> lottapack.history("my-org/digits")[0].names
        ('v1', 'main')
    """
    source = parse_remote(reference)
    if isinstance(source, HubReference):
        hub_client.require()
        from lottapack.registry import hub

        return hub.log(source)
    from lottapack.registry import oci

    return oci.log(source)
