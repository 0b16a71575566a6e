"""Packs in registries: pull them verified, and see what is there; ``lottapack.pushing`` sends them.

A reference decides which registry it is: ``hub`` (a Hugging Face Hub, ours too) or ``oci``. Neither is imported before
it is needed.
"""

from os import PathLike

from lottapack.progress import Progress
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
    """Bring a pack into the cache and check it: size and SHA-256 as the registry says them, then its own hashes.

    A file that differs is removed and fetched once more. What is in the cache is not fetched again; a commit or digest
    that is there needs no network at all.

    Args:
        reference: ``owner/name[@revision]``, ``http(s)://host/owner/name[@revision]`` of another server (which is sent
            no token), or ``oci://host/repository:tag`` (or ``@sha256:...``).
        output: also copy the pack there, and its signature: a file, or a folder that exists. A file is replaced.
        progress: in bytes of the pack.

    Raises:
        IntegrityError: it differs twice; names both hashes. FormatError: it is not a pack. InvalidReferenceError.
            LimitError: the disk has no room for it. OutputError: the cache or the output cannot be written.
        NetworkError, AccessError, NotFoundError: see RegistryError.

    Source:
        spec/v1/oci.md and spec/v1/refusals.md.

    Examples:
        >>> pulled = lottapack.pull("my-org/digits@v1")
        >>> pulled.path.name
        'model.lotta.safetensors'
    """
    source = parse_remote(reference)
    if isinstance(source, HubReference):
        from lottapack.registry import hub_pull

        found = hub_pull.pull(source, progress)
    else:
        from lottapack.registry import oci

        found = oci.pull(source, progress)
    if output is None:
        return found
    from lottapack.registry.placing import place

    return place(found, output)


def list_packs(owner: str) -> list[Listed]:
    """List the repositories of a user or organisation that hold a pack.

    Args:
        owner: ``my-org``; or ``oci://host[/prefix]``, for a registry that lists its repositories.

    Returns:
        What to pull, and what the registry says of each.

    Raises:
        InvalidReferenceError: the text names no owner.
        RegistryError: the registry cannot be reached, refuses, or does not know the owner.
        UnsupportedError: an OCI registry that does not list its repositories.

    Source:
        spec/v1/oci.md.

    Examples:
        >>> [listed.reference for listed in lottapack.list_packs("my-org")]
        ['my-org/digits']
    """
    whose = parse_owner(owner)
    if whose.host is None:
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
        from lottapack.registry import hub

        return hub.log(source)
    from lottapack.registry import oci

    return oci.log(source)
