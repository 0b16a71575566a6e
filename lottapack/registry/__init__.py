"""Packs in registries: pull them verified, and see what is there; ``lottapack.pushing`` sends them.

A reference decides which registry it is: ``hub`` (a Hugging Face Hub, ours too) or ``oci``. Neither is imported before
it is needed.
"""

from pathlib import Path

from lottapack.errors import InvalidReferenceError
from lottapack.progress import Progress
from lottapack.registry.records import FileSize, Listed, LogEntry, PullResult, PushOptions, PushResult
from lottapack.registry.references import FORMS, HubReference, OciReference, parse, parse_owner

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
    "pull",
    "remote",
]


def pull(reference: str, *, progress: Progress | None = None) -> PullResult:
    """Bring a pack into the cache and check it: size and SHA-256 as the registry says them, then its own hashes.

    A file that differs is removed and fetched once more. What is in the cache is not fetched again; a commit or digest
    that is there needs no network at all.

    Args:
        reference: ``owner/name[@revision]`` or ``oci://host/repository:tag`` (or ``@sha256:...``).
        progress: in bytes of the pack.

    Raises:
        IntegrityError: it differs twice; names both hashes. FormatError: it is not a pack. InvalidReferenceError.
            LimitError: the disk has no room for it. OutputError: the cache cannot be written.
        NetworkError, AccessError, NotFoundError: see RegistryError.
    """
    source = remote(reference)
    if isinstance(source, HubReference):
        from lottapack.registry import hub_pull

        return hub_pull.pull(source, progress)
    from lottapack.registry import oci

    return oci.pull(source, progress)


def list_packs(owner: str) -> list[Listed]:
    """The repositories of a user or organisation that hold a pack; or ``oci://host[/prefix]``, where it lists them.

    Raises: InvalidReferenceError; NetworkError, AccessError, NotFoundError; UnsupportedError for an OCI registry that
    lists nothing.
    """
    whose = parse_owner(owner)
    if whose.host is None:
        from lottapack.registry import hub

        return hub.list_packs(whose)
    from lottapack.registry import oci

    return oci.list_packs(whose)


def history(reference: str) -> list[LogEntry]:
    """The commits of a repository, newest first, each with the tags and branches that point to it; or an image's tags.

    Raises: InvalidReferenceError; NetworkError, AccessError, NotFoundError.
    """
    source = remote(reference)
    if isinstance(source, HubReference):
        from lottapack.registry import hub

        return hub.log(source)
    from lottapack.registry import oci

    return oci.log(source)


def remote(text: str) -> HubReference | OciReference:
    """The repository that a text names. Raises InvalidReferenceError for a path."""
    found = parse(text)
    if isinstance(found, Path):
        raise InvalidReferenceError(f"{text!r} is a path, not a place in a registry", hint=FORMS)
    return found
