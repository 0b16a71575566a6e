"""Fetch an image's files into the cache, and check each against its digest before it is parsed."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lottapack.errors import FormatError, IntegrityError
from lottapack.files.output import settle
from lottapack.progress import Progress
from lottapack.registry import downloading
from lottapack.registry.integrity import check_pack
from lottapack.registry.oci_cache import Entry, expected
from lottapack.registry.oci_manifest import Blob, Image

if TYPE_CHECKING:
    from lottapack.registry.oci_client import Client


def fetch(client: "Client", image: Image, entry: Entry, where: str, progress: Progress | None) -> int:
    """Fetch the files of an image, and check the pack before it gets its name. Returns the bytes received of it."""
    if image.signature:
        part = _part(entry, image.signature)
        download(client, image.signature, part, None)
        settle(part, entry.file(image.signature))
    part = _part(entry, image.pack)
    received = download(client, image.pack, part, progress)
    try:
        check_pack(part)
    except (FormatError, IntegrityError) as fault:
        part.unlink()
        hint = "The file is as it was pushed, but this version cannot read it as a pack. Report this to its author."
        raise type(fault)(where, fault.problems, hint=hint) from fault
    settle(part, entry.file(image.pack))
    return received


def _part(entry: Entry, blob: Blob) -> Path:
    """Return the partial file of a blob.

    A file that an interrupted pull had already named is moved back, to be checked.
    """
    part = entry.folder / f"{blob.sha256}.part"
    file = entry.file(blob)
    if file.is_file():
        file.replace(part)
    return part


def download(client: "Client", blob: Blob, path: Path, progress: Progress | None) -> int:
    """Fetch a blob into ``path``; see downloading.download()."""
    what = f"{client.where}, {blob.title}"
    return downloading.download(partial(client.open_blob, blob), expected(blob), path, what, progress)
