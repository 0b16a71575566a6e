"""Pull from the Hub: ask what the pack should be, fetch it, check it before anyone parses it."""

from pathlib import Path
from typing import Any

from huggingface_hub import constants
from tqdm.std import tqdm

from lottapack.errors import FormatError, IntegrityError, MissingError, RegistryError
from lottapack.format.container import SIGNATURE_END
from lottapack.progress import Progress
from lottapack.registry import hub_files, integrity
from lottapack.registry.hub_errors import translated
from lottapack.registry.hub_files import Contents
from lottapack.registry.records import PullResult
from lottapack.registry.references import HubReference

_SIGNATURE = 1_000_000
"""Bytes of the largest signature that is fetched."""


def pull(source: HubReference, progress: Progress | None) -> PullResult:
    """See ``lottapack.registry.pull``."""
    with translated(str(source)):
        if constants.is_offline_mode():
            return _offline(source)
        if source.commit and (found := _cached(source, source.commit)):
            return found
        return _online(source, progress)


def _online(source: HubReference, progress: Progress | None) -> PullResult:
    there = hub_files.contents(source.repo, source.revision)
    name = hub_files.only_pack(source, there.packs(), f"at commit {there.commit[:12]} of {constants.ENDPOINT}")
    expected = there.files[name]
    _fetch_signature(source, there, name + SIGNATURE_END)
    counted = _Counter(expected.size, progress)
    path = hub_files.fetch(source.repo, there, name, counted.bar())
    sha256 = integrity.check_pack(path, expected)
    hub_files.remember(source, there.commit)
    return PullResult(path, str(source), there.commit, sha256, expected.size, counted.done)


def _fetch_signature(source: HubReference, there: Contents, name: str) -> None:
    """Before the pack, so that where a pack is in the cache its signature is too."""
    if name in there.files:
        if there.files[name].size > _SIGNATURE:
            hint = "Tell whoever pushed it."
            raise RegistryError(f"{source}: {name} is no signature: {there.files[name].size:,} bytes", hint=hint)
        hub_files.fetch(source.repo, there, name)


def _cached(source: HubReference, commit: str) -> PullResult | None:
    """The pack of a commit if it is in the cache as it should be; one that is not so is removed."""
    packs = hub_files.cached_packs(source.repo, commit)
    if not packs:
        return None
    hub_files.only_pack(source, [pack.name for pack in packs], "in the cache")
    try:
        return _checked(source, commit, packs[0])
    except (IntegrityError, FormatError):
        hub_files.remove(packs[0])
        return None


def _offline(source: HubReference) -> PullResult:
    commit = hub_files.cached_commit(source)
    packs = hub_files.cached_packs(source.repo, commit) if commit else []
    if commit is None or not packs:
        hint = "Unset HF_HUB_OFFLINE and pull it once, or set HF_HOME to where it is."
        raise MissingError(f"{source}: not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set", hint=hint)
    hub_files.only_pack(source, [pack.name for pack in packs], "in the cache")
    try:
        return _checked(source, commit, packs[0])
    except (IntegrityError, FormatError):
        hub_files.remove(packs[0])
        raise


def _checked(source: HubReference, commit: str, path: Path) -> PullResult:
    expected = hub_files.expected_of(path)
    problem = integrity.difference(path, expected) if expected else None
    if problem:
        raise integrity.refuse(path, problem)
    return PullResult(path, str(source), commit, integrity.check_pack(path, expected), path.stat().st_size, 0)


class _Counter:
    """Counts the bytes that the client receives, through the progress bar that it takes."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self._total, self._progress = total, progress

    def bar(self) -> type[Any]:
        """A class of bars that show nothing and report here."""
        counter = self

        class Silent(tqdm):  # type: ignore[misc]
            """One bar of one download. Bytes on the wire are told apart from those written (Xet): only these count."""

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})

            def update(self, n: float | None = 1) -> bool | None:
                counter.add(int(n or 0))
                return None

            def update_transfer(self, n: float) -> None:
                """Take note of bytes on the wire: not counted."""

        return Silent

    def add(self, count: int) -> None:
        """More bytes are written; fewer after a download that began again."""
        self.done += count
        if self._progress:
            self._progress(max(0, min(self.done, self._total)), self._total)
