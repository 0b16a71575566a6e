"""List the files of a Hub repository at a revision in one request, and fetch them into the cache."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec

from lottapack.errors import NotFoundError, RegistryError
from lottapack.files.output import settle
from lottapack.format.collect import HEX64
from lottapack.format.container import PACK_END
from lottapack.progress import Progress
from lottapack.registry import answers, hub_cache, hub_http, hub_server, integrity
from lottapack.registry.downloading import Body, download
from lottapack.registry.hub_errors import translated
from lottapack.registry.integrity import Expected
from lottapack.registry.references import COMMIT, HubReference

_log = logging.getLogger(__name__)

_DIGESTS = {"sha256": HEX64, "git": COMMIT}


@dataclass(frozen=True, slots=True)
class Contents:
    """A repository at one commit. ``files``: size and hash of each by name. ``private``: None if unknown."""

    commit: str
    files: dict[str, Expected]
    private: bool | None

    def packs(self) -> list[str]:
        """Return the names of its packs."""
        return sorted(name for name in self.files if name.endswith(PACK_END))


class _Lfs(msgspec.Struct):
    """The Hub's record of a file's content that is not in git itself."""

    sha256: str
    size: int


class _File(msgspec.Struct, rename="camel"):
    """A file of a repository, as the Hub describes it."""

    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: _Lfs | None = None


class _Info(msgspec.Struct):
    """A repository, as the Hub describes it; the Hub's record has more fields."""

    sha: str
    siblings: list[_File] = []
    private: bool | None = None


def contents(repo: str, revision: str | None) -> Contents:
    """Return the contents of a repository, in one request.

    Raises RegistryError for an invalid answer, and for another commit than a revision that is one; Refused.

    (HfApi.model_info does the same, but importing it takes longer than the request, and it does not check the answer.)
    """
    path = f"/api/models/{repo}" + (f"/revision/{quote(revision, safe='')}" if revision else "")
    info = hub_http.get(path, _Info, repo, {"blobs": "true"})
    if not COMMIT.fullmatch(info.sha):
        raise RegistryError(
            f"{repo}: {hub_server.endpoint()} did not return a commit", hint="Check that HF_ENDPOINT names a Hub."
        )
    if revision and COMMIT.fullmatch(revision) and info.sha != revision:
        raise RegistryError(
            f"{repo}: {hub_server.endpoint()} answers with commit {info.sha} instead of {revision}",
            hint=answers.DISTRUST,
        )
    files = {}
    for file in info.siblings:
        if file.lfs is not None:
            files[file.rfilename] = Expected(file.lfs.size, "sha256", file.lfs.sha256)
        elif file.size is not None and file.blob_id:
            files[file.rfilename] = Expected(file.size, "git", file.blob_id)
    return Contents(info.sha, files, info.private)


def fetch(repo: str, there: Contents, name: str, most: int, progress: Progress | None = None) -> tuple[Path, int]:
    """Return the path in the cache of a file with the announced bytes, and how many bytes were fetched.

    Fetches by commit, not by branch or tag, which may have moved since the request. A cached file that differs is
    removed and fetched again. ``most``: the most bytes of a file.

    Raises IntegrityError; RegistryError for an invalid name, size or hash, and for a larger file.
    """
    expected = there.files[name]
    _refuse_odd(repo, name, expected, most)
    if path := _intact(repo, there.commit, name, expected):  # without a lock, also where nothing can be written
        return path, 0
    with hub_cache.locked(repo, expected.digest):
        if path := _intact(repo, there.commit, name, expected):  # another process was faster
            return path, 0
        hub_cache.remove_link(repo, there.commit, name)
        blob, received = hub_cache.blob(repo, expected.digest), 0
        if not (hub_cache.is_own_file(blob) and integrity.difference(blob, expected) is None):
            blob.unlink(missing_ok=True)
            part = blob.with_name(f"{blob.name}.incomplete")
            opener = partial(_opened, repo, there.commit, name)
            received = download(opener, expected, part, f"{repo}/{name}", progress)
            settle(part, blob)
        return hub_cache.link(repo, there.commit, name, blob), received


def _intact(repo: str, commit: str, name: str, expected: Expected) -> Path | None:
    """Return a file of a commit in the cache if it is as announced, or None."""
    path = hub_cache.find(repo, commit, name)
    with suppress(FileNotFoundError):  # another process removes a damaged one
        if path and integrity.difference(path, expected) is None:
            _log.info("%s/%s is in the cache: %s", repo, name, path)
            return path
    return None


@contextmanager
def _opened(repo: str, commit: str, name: str, start: int) -> Iterator[Body]:
    """Open a file's stream. Only network errors are translated, not what happens to the bytes."""
    with ExitStack() as stack:
        with translated(repo):
            body = stack.enter_context(hub_http.file(repo, commit, name, f"{repo}/{name}", start))
        yield Body(body.status, body.headers, _translated(body.chunks, repo))


def _translated(chunks: Iterator[bytes], repo: str) -> Iterator[bytes]:
    with translated(repo):
        yield from chunks


def _refuse_odd(repo: str, name: str, expected: Expected, most: int) -> None:
    """Raise RegistryError for anything that is not a plain file of this repository in the cache."""
    fault = next((fault for part in name.split("/") if (fault := answers.name_fault(part))), None)
    fault = "it is an absolute path" if name.startswith("/") else fault
    if fault or len(name) > 1024:
        shown = answers.printable(name, 200)
        hint = "Rename it in the repository, or do not trust this server."
        raise RegistryError(f"{repo}: {shown!r} cannot be the name of a file: {fault or 'it is too long'}", hint=hint)
    if not _DIGESTS[expected.algorithm].fullmatch(expected.digest) or not 0 <= expected.size < 1 << 62:
        shown = answers.printable(f"{expected.digest!r} of {expected.size} bytes", 200)
        raise RegistryError(f"{repo}: {name} has an invalid hash or size: {shown}", hint=answers.DISTRUST)
    if expected.size > most:
        hint = "Report this to its author."
        raise RegistryError(f"{repo}: {name} has {expected.size:,} bytes, but only {most:,} are allowed", hint=hint)


def only_pack(source: HubReference, names: list[str], where: str) -> str:
    """Return the one pack of a revision. Raises NotFoundError if it has none, RegistryError if it has several."""
    if not names:
        hint = f"A pack's name ends in {PACK_END}. List the commits with: lottapack log {source.repo}"
        raise NotFoundError(f"{source}: found no pack {where}", hint=hint)
    if len(names) > 1:
        hint = f"Fetch the one you want with hf download {source.repo} NAME, and use its path."
        raise RegistryError(f"{source}: found several packs {where}: {answers.listed(names)}", hint=hint)
    return names[0]
