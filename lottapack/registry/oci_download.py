"""Bringing an image's files into the cache, each exactly what its digest says before anyone looks into it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lottapack.errors import FormatError, IntegrityError, NetworkError, OutputError, Problem
from lottapack.output import sync_folder
from lottapack.progress import Progress
from lottapack.registry.integrity import check_pack, difference, refuse
from lottapack.registry.oci_cache import Entry, expected
from lottapack.registry.oci_manifest import Blob, Image

if TYPE_CHECKING:
    from lottapack.registry.oci_client import Client

_CHUNK = 1 << 16
"""Bytes read at once; what is lost at most of what came before a connection broke."""
_PARTIAL = 206
_CUTS = 5
"""How often one fetch goes on after the connection broke, if each time something came."""


def fetch(client: "Client", image: Image, entry: Entry, where: str, progress: Progress | None) -> int:
    """Fetch the files of an image and look into the pack before it gets its name. Returns the bytes received of it."""
    if image.signature:
        part = _part(entry, image.signature)
        download(client, image.signature, part, None)
        _settle(part, entry.file(image.signature))
    part = _part(entry, image.pack)
    received = download(client, image.pack, part, progress)
    try:
        check_pack(part)
    except (FormatError, IntegrityError) as fault:
        part.unlink()
        hint = "It is as it was pushed, and is not a pack that this version reads. Tell whoever pushed it."
        raise type(fault)(where, fault.problems, hint=hint) from fault
    _settle(part, entry.file(image.pack))
    return received


def _part(entry: Entry, blob: Blob) -> Path:
    """Where a blob is fetched to. What an interrupted pull had named already goes back there, to be checked again."""
    part = entry.folder / f"{blob.sha256}.part"
    file = entry.file(blob)
    if file.is_file():
        file.replace(part)
    return part


def _settle(part: Path, path: Path) -> None:
    """Give a fetched file its name."""
    part.replace(path)
    sync_folder(path.parent)


def download(client: "Client", blob: Blob, path: Path, progress: Progress | None) -> int:
    """Fetch a blob into ``path``; what an earlier fetch that broke left there is continued.

    Returns how many bytes came over the network. ``progress``: in bytes of the blob.

    Raises:
        IntegrityError: the bytes are not the blob's, fetched anew neither. OutputError: no room, for one.
        NetworkError, AccessError, MissingError.
    """
    received = 0
    for last in (False, True):
        try:
            received += _receive(client, blob, path, progress)
            problem = difference(path, expected(blob))
        except _WrongSizeError as fault:
            problem = Problem("size", blob.title, str(fault))
        except OSError as fault:
            if fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                path.unlink(missing_ok=True)
            hint = "Make room there, or set LOTTAPACK_CACHE to another folder."
            raise OutputError(f"cannot write {path}: {fault.strerror or fault}", hint=hint) from fault
        if problem is None:
            break
        path.unlink()
        if last:
            raise refuse(f"{client.where}, {blob.title}", problem)
    return received


class _WrongSizeError(Exception):
    """A registry offers a blob of another size than its manifest says."""


def _receive(client: "Client", blob: Blob, path: Path, progress: Progress | None) -> int:
    """Append to a file until it has the blob's size, over a few broken connections if each brings something."""
    received = 0
    with path.open("ab") as file:
        if file.tell() > blob.size:
            file.truncate(0)
        for cuts in range(_CUTS + 1):
            before = received
            try:
                for count in _stream(client, blob, file):
                    received += count
                    if progress:
                        progress(file.tell(), blob.size)
                break
            except NetworkError:
                if cuts == _CUTS or received == before:
                    raise
        file.flush()
        os.fsync(file.fileno())
    return received


def _stream(client: "Client", blob: Blob, file: BinaryIO) -> Iterator[int]:
    """Append what a file lacks; yields the bytes written, piece by piece."""
    start = file.tell()
    if start == blob.size:
        return
    with client.network(), client.open_blob(blob, start) as response:
        if response.status_code != _PARTIAL:
            start = 0
            file.truncate(0)
        length = response.headers.get("Content-Length")
        if length is not None and start + int(length) != blob.size:
            raise _WrongSizeError(f"has {start + int(length):,} bytes, its manifest says {blob.size:,}")
        for chunk in response.iter_content(_CHUNK):
            start += len(chunk)
            if start > blob.size:
                raise _WrongSizeError(f"has more than the {blob.size:,} bytes that its manifest says")
            yield file.write(chunk)
    if start < blob.size:
        raise NetworkError(f"{client.where}: the answer ended after {start:,} of {blob.size:,} bytes")
