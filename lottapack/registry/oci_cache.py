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
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from lottapack.errors import OutputError, RegistryError
from lottapack.files.cache_folder import cache_folder
from lottapack.files.output import atomic_file
from lottapack.registry import oci_manifest
from lottapack.registry.integrity import Expected, difference
from lottapack.registry.oci_manifest import Blob, Image
from lottapack.registry.references import OciReference

_MANIFEST = "manifest.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """The folder of one manifest digest. Use it inside locked()."""

    folder: Path

    def file(self, blob: Blob) -> Path:
        """Return the path of a blob of the image."""
        return self.folder / blob.title

    def image(self, where: str) -> Image | None:
        """Return the files of a complete image, each read and checked against its digest; None if one is not complete.

        Damaged files are removed, so that they are fetched again.
        """
        path = self.folder / _MANIFEST
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(raw).hexdigest() != self.folder.name:
            path.unlink()
            return None
        try:
            image = oci_manifest.read(raw, where)
        except RegistryError:  # stored by another version with other rules
            return None
        complete = True
        for blob in (image.pack, image.signature):
            file = self.file(blob) if blob else None
            if blob and file and file.is_file() and difference(file, expected(blob)):
                file.unlink()
            complete = complete and (file is None or file.is_file())
        return image if complete else None

    def complete(self, manifest: bytes) -> None:
        """Write the manifest, which completes the image."""
        with atomic_file(self.folder / _MANIFEST) as file:
            file.write(manifest)


def expected(blob: Blob) -> Expected:
    """Return what the file of a blob must be."""
    return Expected(blob.size, "sha256", blob.sha256)


@contextmanager
def locked(digest: str) -> Iterator[Entry]:
    """Lock and yield the folder of a manifest digest, created if missing. Raises OutputError."""
    name = digest.removeprefix("sha256:")
    folder = _root() / "sha256" / name
    with _writable():
        folder.mkdir(parents=True, exist_ok=True)
        lock = _root() / "locks" / name
        lock.parent.mkdir(exist_ok=True)
        taken = FileLock(lock)
        taken.acquire()
    try:
        yield Entry(folder)
    finally:
        taken.release()
        with suppress(OSError):
            folder.rmdir()  # only succeeds if nothing was fetched


def remember(reference: OciReference, digest: str) -> None:
    """Store the digest of a tag, to name it when the registry cannot be reached. Raises OutputError."""
    if recall(reference) == digest:
        return
    path = _tag(reference)
    with _writable():
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(digest.encode())


def recall(reference: OciReference) -> str | None:
    """Return the digest of a tag when it was last pulled, if that image is still in the cache."""
    try:
        digest = _tag(reference).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not _DIGEST.fullmatch(digest):
        return None
    return digest if (_root() / "sha256" / digest.removeprefix("sha256:") / _MANIFEST).is_file() else None


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        hint = "Set LOTTAPACK_CACHE to a folder that can be written."
        raise OutputError(f"cannot use the cache {_root()}: {fault.strerror or fault}", hint=hint) from fault


def _tag(reference: OciReference) -> Path:
    return _root() / "tags" / hashlib.sha256(str(reference).encode()).hexdigest()


def _root() -> Path:
    return cache_folder() / "oci"
