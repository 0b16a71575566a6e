"""The cache that the Hub's clients share on this machine, in the layout of its documentation.

::

    <cache>/models--owner--name/blobs/<sha256, or git's id>      the files
                                      <the same>.incomplete      left by an interrupted fetch
                                snapshots/<commit>/<name>        links to blobs
                                refs/<branch or tag>             the last known commit
    <cache>/.locks/models--owner--name/<sha256>.lock             held by whoever fetches

``<cache>`` is hub_server.cache(), by default HF_HUB_CACHE.

Every name here consists of a repository's name (references), checked hashes, and checked file names
(answers.name_fault). Nothing outside a repository's folder is written or removed, even if the cache contains links that
lead out of it.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lottapack.errors import OutputError
from lottapack.files.output import atomic_file
from lottapack.format.collect import HEX64
from lottapack.format.container import PACK_END
from lottapack.registry import hub_server
from lottapack.registry.integrity import Expected
from lottapack.registry.locking import acquired
from lottapack.registry.references import COMMIT, HubReference


def folder(repo: str) -> Path:
    """Return the folder of a repository."""
    return hub_server.cache() / _name(repo)


def blob(repo: str, digest: str) -> Path:
    """Return the path of the file with a hash; its folder is created."""
    return _own_folder(repo, "blobs") / digest


@contextmanager
def locked(repo: str, digest: str) -> Iterator[None]:
    """Lock the file of that hash against others who would fetch it, including other clients."""
    cache = hub_server.cache()
    path = cache / ".locks" / _name(repo) / f"{digest}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not _is_inside(path.parent, cache):  # older lock libraries empty the target of a link
        raise OutputError(f"{path} is, or is behind, a link out of the cache", hint=_remove_link())
    lock = acquired(path)
    try:
        yield
    finally:
        lock.release()


def find(repo: str, commit: str, name: str) -> Path | None:
    """Return a file of a commit in the cache, or None: a file there, or a link to one of the repository's blobs."""
    path = folder(repo) / "snapshots" / commit / name
    return path if is_cached(repo, path) else None


def packs(repo: str, commit: str) -> list[Path]:
    """Return the packs of a commit in the cache, without links that lead nowhere or elsewhere."""
    paths = (folder(repo) / "snapshots" / commit).rglob(f"*{PACK_END}")
    return sorted(path for path in paths if is_cached(repo, path))


def is_cached(repo: str, path: Path) -> bool:
    """Return whether a path in a commit is a regular file of the repository: its own, or one of its blobs."""
    root = folder(repo).resolve()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # a broken or circular link
        return False
    own = real.is_relative_to(root / "snapshots") and not path.is_symlink()
    return real.is_file() and (own or real.parent == root / "blobs")


def is_own_file(path: Path) -> bool:
    """Return whether a regular file is there, not a link."""
    return path.is_file() and not path.is_symlink()


def expected_of(path: Path) -> Expected | None:
    """Return what a cached file should be, from its blob's name; None on file systems without links."""
    blob = path.resolve()
    if blob.parent.name != "blobs":
        return None
    size = blob.stat().st_size
    if HEX64.fullmatch(blob.name):
        return Expected(size, "sha256", blob.name)
    return Expected(size, "git", blob.name) if COMMIT.fullmatch(blob.name) else None


def link(repo: str, commit: str, name: str, blob: Path) -> Path:
    """Create a file of a commit from its blob, as a link or by moving the blob; return its path."""
    *folders, last = name.split("/")
    path = _own_folder(repo, "snapshots", commit, *folders) / last
    target = os.path.relpath(blob, path.parent)
    temporary = path.with_name(f".{secrets.token_hex(8)}.link")
    try:
        temporary.symlink_to(target)
    except (OSError, NotImplementedError):
        blob.replace(path)
        return path
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    return path


def remove_link(repo: str, commit: str, name: str) -> None:
    """Remove the entry of a file in a commit, but not what it links to."""
    path = folder(repo) / "snapshots" / commit / name
    if _is_inside(path.parent, folder(repo)):
        path.unlink(missing_ok=True)


def remove(repo: str, path: Path) -> None:
    """Remove a file of a commit, and its blob if that belongs to the repository."""
    blob = path.resolve()
    if _is_inside(path.parent, folder(repo)):
        path.unlink(missing_ok=True)
    if blob.parent == folder(repo).resolve() / "blobs":
        blob.unlink(missing_ok=True)


def recall(source: HubReference) -> str | None:
    """Return the commit that a revision named when the network was last asked, or None."""
    if source.commit:
        return source.commit
    with suppress(OSError, UnicodeDecodeError):
        text = (folder(source.repo) / "refs" / (source.revision or "main")).read_text("ascii").strip()
        return text if COMMIT.fullmatch(text) else None
    return None


def remember(source: HubReference, commit: str) -> None:
    """Store the commit of a branch or tag for offline use. A read-only cache is left as it is."""
    if source.commit:
        return
    *folders, last = (source.revision or "main").split("/")
    with suppress(OSError, OutputError):
        ref = _own_folder(source.repo, "refs", *folders) / last
        if ref.is_file() and ref.read_bytes() == commit.encode("ascii"):
            return
        with atomic_file(ref) as file:
            file.write(commit.encode("ascii"))


def _name(repo: str) -> str:
    return f"models--{repo.replace('/', '--')}"


def _own_folder(repo: str, *parts: str) -> Path:
    """Return a repository's own folder, created if missing. Raises OutputError if a link leads out of it."""
    path = folder(repo).joinpath(*parts)
    # Created from the top, so that none is created behind a link.
    for made in [*reversed(path.parents[: len(parts)]), path]:
        made.mkdir(parents=made == folder(repo), exist_ok=True)
        if not _is_inside(made, folder(repo)):
            raise OutputError(f"{made} is a link out of the cache of {repo}", hint=_remove_link())
    return path


def _remove_link() -> str:
    return f"Remove that link, or set {hub_server.setting()} to another folder. Nothing was written."


def _is_inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())
