"""Pull from the Hub: ask what the pack should be, fetch it, and check it before it is parsed."""

import logging
import os
from contextlib import suppress
from pathlib import Path

from huggingface_hub import constants

from lottapack.errors import FormatError, IntegrityError, NotFoundError, Problem
from lottapack.format.container import SIGNATURE_END
from lottapack.progress import Progress
from lottapack.registry import hub_cache, hub_files, hub_server, integrity
from lottapack.registry.hub_errors import translated
from lottapack.registry.records import PullResult
from lottapack.registry.references import HubReference

_log = logging.getLogger(__name__)

_PACK = 1 << 62
"""The most bytes of a pack that are fetched."""


def pull(source: HubReference, progress: Progress | None) -> PullResult:
    """Pull from the Hub; see ``lottapack.registry.pull``."""
    with hub_server.at(source.server), translated(str(source)):
        if constants.is_offline_mode():
            return _offline(source)
        if source.commit and hub_cache.packs(source.repo, source.commit):
            with suppress(IntegrityError, FormatError):  # then it is removed, and fetched again
                return _cached(source, source.commit)
        return _online(source, progress)


def _online(source: HubReference, progress: Progress | None) -> PullResult:
    contents = hub_files.contents(source.repo, source.revision)
    name = hub_files.only_pack(source, contents.packs(), f"at commit {contents.commit[:12]} of {hub_server.endpoint()}")
    expected = contents.files[name]
    # The signature first, so that a pack in the cache always has its signature there too.
    if name + SIGNATURE_END in contents.files:
        hub_files.fetch(source.repo, contents, name + SIGNATURE_END, integrity.MAX_SIGNATURE)
    path, received = hub_files.fetch(source.repo, contents, name, _PACK, progress)
    if progress:
        progress(expected.size, expected.size)
    sha256 = integrity.check_pack(path, expected)
    hub_cache.remember(source, contents.commit)
    return PullResult(path, str(source), contents.commit, sha256, expected.size, received)


def _offline(source: HubReference) -> PullResult:
    commit = hub_cache.recall(source)
    if commit is None or not hub_cache.packs(source.repo, commit):
        hint = "Unset HF_HUB_OFFLINE and pull it once, or set HF_HOME to the cache that has it."
        raise NotFoundError(f"{source}: not in the cache {hub_server.cache()}, and HF_HUB_OFFLINE is set", hint=hint)
    return _cached(source, commit)


def _cached(source: HubReference, commit: str) -> PullResult:
    """Return the pack of a commit in the cache. A damaged one is removed; raises IntegrityError, FormatError.

    A damaged signature stays, because the pack would pass for one without a signature.
    """
    packs = hub_cache.packs(source.repo, commit)
    hub_files.only_pack(source, [pack.name for pack in packs], "in the cache")
    _check_signature(source, packs[0].with_name(packs[0].name + SIGNATURE_END))
    try:
        return _checked(source, commit, packs[0])
    except (IntegrityError, FormatError):
        hub_cache.remove(source.repo, packs[0])
        raise


def _check_signature(source: HubReference, path: Path) -> None:
    """Raise IntegrityError for a signature in the cache, if there is one, that is not what the registry has."""
    if not os.path.lexists(path):
        return
    problem: Problem | None = Problem("sha256", "file", "is missing, or a link out of the cache")
    if hub_cache.is_cached(source.repo, path):
        expected = hub_cache.expected_of(path)
        problem = integrity.difference(path, expected) if expected else None
    if problem:
        hint = "Unset HF_HUB_OFFLINE and pull again, which replaces it."
        raise IntegrityError(str(path), [problem], hint=hint)


def _checked(source: HubReference, commit: str, path: Path) -> PullResult:
    _log.info("%s is in the cache: %s", source, path)
    expected = hub_cache.expected_of(path)
    problem = integrity.difference(path, expected) if expected else None
    if problem:
        raise integrity.refuse(path, problem)
    return PullResult(path, str(source), commit, integrity.check_pack(path, expected), path.stat().st_size, 0)
