"""Pulled images on this machine: one folder for each manifest digest, either complete or absent.

::

    <cache>/oci/sha256/<manifest digest>/manifest.json        written last
                                         digits.lotta.safetensors
                                         digits.lotta.safetensors.sig
    <cache>/oci/tags/<hash of the reference>                  the digest of a tag when it was last pulled
    <cache>/oci/locks/<manifest digest>                       held by whoever fetches

``<cache>`` is cache_folder().
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lottapack.errors import OutputError, RegistryError
from lottapack.files.cache_folder import cache_folder
from lottapack.files.output import atomic_file
from lottapack.registry import oci_manifest
from lottapack.registry.integrity import Expected, difference
from lottapack.registry.locking import acquired
from lottapack.registry.oci_manifest import Blob, Image
from lottapack.registry.references import DIGEST, OciReference

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """The folder of one manifest digest. Write to it inside locked()."""

    folder: Path

    def file(self, blob: Blob) -> Path:
        """Return the path of a blob of the image."""
        return self.folder / blob.title

    def image(self, where: str) -> Image | None:
        """Return the files of a complete image, each read and checked against its digest; None if one differs."""
        try:
            raw = (self.folder / _MANIFEST).read_bytes()
            if hashlib.sha256(raw).hexdigest() != self.folder.name:
                return None
            image = oci_manifest.read(raw, where)
            blobs = [blob for blob in (image.pack, image.signature) if blob]
            return image if all(difference(self.file(blob), expected(blob)) is None for blob in blobs) else None
        except OSError:  # a file is missing
            return None
        except RegistryError:  # stored by another version with other rules
            return None

    def complete(self, manifest: bytes) -> None:
        """Write the manifest, which completes the image."""
        with atomic_file(self.folder / _MANIFEST) as file:
            file.write(manifest)


def expected(blob: Blob) -> Expected:
    """Return what the file of a blob must be."""
    return Expected(blob.size, "sha256", blob.sha256)


def entry(digest: str) -> Entry:
    """Return the folder of a manifest digest, which may be missing."""
    return Entry(_root() / "sha256" / digest.removeprefix("sha256:"))


@contextmanager
def locked(entry: Entry) -> Iterator[None]:
    """Lock the folder of a manifest digest, created if missing. Raises OutputError, also for what fails in the block.

    The folder is created and removed inside the lock, so that nobody removes the one that another process uses.
    """
    with _writable():
        locks = _root() / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = acquired(locks / entry.folder.name)
        try:
            entry.folder.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            with suppress(OSError):
                entry.folder.rmdir()  # only succeeds if nothing was fetched
            lock.release()


def remember(reference: OciReference, digest: str) -> None:
    """Store the digest of a tag, to name it when the registry cannot be reached. A read-only cache stays as it is."""
    if recall(reference) == digest:
        return
    path = _tag(reference)
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(digest.encode())


def recall(reference: OciReference) -> str | None:
    """Return the digest of a tag when it was last pulled, if that image is still in the cache."""
    try:
        digest = _tag(reference).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not DIGEST.fullmatch(digest):
        return None
    return digest if (_root() / "sha256" / digest.removeprefix("sha256:") / _MANIFEST).is_file() else None


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        hint = "Set LOTTAPACK_CACHE to a folder that can be written and has space."
        raise OutputError(f"cannot use the cache {_root()}: {fault.strerror or fault}", hint=hint) from fault


def _tag(reference: OciReference) -> Path:
    return _root() / "tags" / hashlib.sha256(str(reference).encode()).hexdigest()


def _root() -> Path:
    return cache_folder() / "oci"
