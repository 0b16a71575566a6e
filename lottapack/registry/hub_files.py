"""What a repository of the Hub holds at a revision, asked in one request, and the client's cache of it."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # its documented place
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from lottapack.errors import MissingError, OutputError, RegistryError
from lottapack.format.container import PACK_END
from lottapack.output import atomic_file
from lottapack.registry import integrity
from lottapack.registry.integrity import Expected
from lottapack.registry.references import HubReference

LIBRARY = "lottapack"
"""What we tell servers that we are."""

_SHA256, _GIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_NO_NAME = re.compile(r"[\\:\x00-\x1f\x7f]")
"""What leads out of a folder on some system, or steers a terminal."""
_WAIT = 30.0
"""Seconds for an answer that is no file. (The client itself would wait for ever.)"""


@dataclass(frozen=True, slots=True)
class Contents:
    """A repository at one commit. ``files``: size and hash of each, by name; ``private``: None if it is not said."""

    commit: str
    files: dict[str, Expected]
    private: bool | None

    def packs(self) -> list[str]:
        """The names of the packs in it."""
        return sorted(name for name in self.files if name.endswith(PACK_END))


class _Lfs(msgspec.Struct):
    """What the Hub says of a file's content where it is not in git itself."""

    sha256: str
    size: int


class _File(msgspec.Struct, rename="camel"):
    """A file of a repository, as the Hub describes it."""

    rfilename: str
    size: int | None = None
    blob_id: str | None = None
    lfs: _Lfs | None = None


class _Info(msgspec.Struct):
    """A repository, as the Hub describes it; there is more in it."""

    sha: str
    siblings: list[_File] = []
    private: bool | None = None


def contents(repo: str, revision: str | None) -> Contents:
    """Ask what is there: one request. Raises what huggingface_hub raises; RegistryError if a Hub does not speak so.

    (HfApi.model_info asks the same. To import it takes longer than the question, and it checks nothing.)
    """
    address = f"{constants.ENDPOINT}/api/models/{repo}"
    if revision:
        address += f"/revision/{quote(revision, safe='')}"
    headers = build_hf_headers(library_name=LIBRARY)
    answer = get_session().get(address, params={"blobs": "true"}, headers=headers, timeout=_WAIT)
    hf_raise_for_status(answer)
    try:
        info = msgspec.json.decode(answer.content, type=_Info)
    except msgspec.DecodeError as fault:
        hint = "Is it a Hub? Check HF_ENDPOINT."
        raise RegistryError(f"{repo}: {constants.ENDPOINT} answers otherwise than a Hub: {fault}", hint=hint) from fault
    if not _GIT.fullmatch(info.sha):
        raise RegistryError(f"{repo}: {constants.ENDPOINT} names no commit", hint="Is it a Hub? Check HF_ENDPOINT.")
    files = {}
    for file in info.siblings:
        if file.lfs is not None:
            files[file.rfilename] = Expected(file.lfs.size, "sha256", file.lfs.sha256)
        elif file.size is not None and file.blob_id:
            files[file.rfilename] = Expected(file.size, "git", file.blob_id)
    return Contents(info.sha, files, info.private)


def fetch(repo: str, there: Contents, name: str, bar: type[Any] | None = None) -> Path:
    """A file whose bytes are what the registry said. A cached one that is not goes, and is fetched anew, once.

    By commit, not by the name of a branch or tag: that may have moved since the question. Raises IntegrityError;
    RegistryError for a name that would leave the cache.
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or _NO_NAME.search(name):
        raise RegistryError(f"{repo}: names a file that no repository has, {name!r}", hint="Do not trust this server.")
    expected, problem = there.files[name], None
    for _ in range(2):
        path = Path(hf_hub_download(repo, name, revision=there.commit, library_name=LIBRARY, tqdm_class=bar))
        problem = integrity.difference(path, expected)
        if problem is None:
            return path
        remove(path)
    assert problem is not None
    raise integrity.refuse(path, problem)


def only_pack(source: HubReference, names: list[str], where: str) -> str:
    """The one pack of a revision. Raises MissingError if there is none, RegistryError if there are several."""
    if not names:
        hint = f"A pack's name ends in {PACK_END}. See the commits with: lottapack log {source.repo}"
        raise MissingError(f"{source}: no pack {where}", hint=hint)
    if len(names) > 1:
        hint = f"One revision, one pack: fetch the one you want with hf download {source.repo} NAME, and use its path."
        raise RegistryError(f"{source}: several packs {where}: {', '.join(names)}", hint=hint)
    return names[0]


def folder(repo: str) -> Path:
    """The client's folder of a repository, laid out as its documentation says: blobs, refs, snapshots."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached_commit(source: HubReference) -> str | None:
    """The commit that a revision stood for when the network was last asked."""
    if source.commit:
        return source.commit
    with suppress(OSError, UnicodeDecodeError):
        text = (folder(source.repo) / "refs" / (source.revision or "main")).read_text("ascii").strip()
        return text if _GIT.fullmatch(text) else None
    return None


def cached_packs(repo: str, commit: str) -> list[Path]:
    """The packs of a commit that are in the cache."""
    return sorted((folder(repo) / "snapshots" / commit).rglob(f"*{PACK_END}"))


def remember(source: HubReference, commit: str) -> None:
    """Keep what a branch or tag stands for, for when there is no network. A cache that is read-only stays so."""
    if source.commit:
        return
    ref = folder(source.repo) / "refs" / (source.revision or "main")
    with suppress(OSError, OutputError):
        if ref.is_file() and ref.read_text("ascii") == commit:
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(ref) as file:
            file.write(commit.encode("ascii"))


def expected_of(path: Path) -> Expected | None:
    """What a cached file should be: the client names its blob by the registry's hash. None where it cannot link."""
    blob = path.resolve()
    if blob.parent.name != "blobs":
        return None
    size = blob.stat().st_size
    if _SHA256.fullmatch(blob.name):
        return Expected(size, "sha256", blob.name)
    return Expected(size, "git", blob.name) if _GIT.fullmatch(blob.name) else None


def remove(path: Path) -> None:
    """Remove a file from the cache: the link in the snapshot, the blob, and whatever that links to."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink(missing_ok=True)
        path = target
    path.unlink(missing_ok=True)
