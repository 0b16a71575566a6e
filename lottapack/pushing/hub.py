"""Push to the Hub in one commit with the pack, its card and its signature, without sending what is already there."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lottapack.errors import (
    ConflictError,
    IntegrityError,
    InvalidReferenceError,
    LottapackError,
    Problem,
    RegistryError,
    UnsupportedError,
)
from lottapack.format.container import SIGNATURE_END
from lottapack.progress import Progress
from lottapack.pushing import card
from lottapack.registry import answers, hub, hub_files, hub_http, integrity
from lottapack.registry.hub_errors import Refused, translated
from lottapack.registry.hub_files import Contents
from lottapack.registry.hub_guard import guarded
from lottapack.registry.hub_http import LIBRARY
from lottapack.registry.integrity import Expected
from lottapack.registry.records import FileSize, PushOptions, PushResult
from lottapack.registry.references import COMMIT, HubReference, is_revision

CARD = "README.md"
_MAX_CARD = 10_000_000
"""The bytes of the largest card that is updated."""
_LOST = (404, 410, 500)
"""How a registry answers for a file whose content it has lost."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The target of a push. ``there``: the contents of its branch, or of main for a new branch; None: no repository."""

    repo: str
    branch: str
    there: Contents | None
    branch_exists: bool


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the commit. ``sha256``, ``size``: of what is to be sent, even if the file is replaced meanwhile."""

    name: str
    content: Path | bytes
    sha256: str
    size: int

    def is_in(self, there: Mapping[str, Expected]) -> bool:
        """Return whether a commit has the file with this content."""
        expected = there.get(self.name)
        if expected is None:
            return False
        if expected.algorithm == "sha256":
            return (expected.size, expected.digest) == (self.size, self.sha256)
        if isinstance(self.content, Path):
            return integrity.difference(self.content, expected) is None and not self.is_replaced()
        hashed = expected.fresh_hash()
        hashed.update(self.content)
        return expected.size == self.size and expected.problem(hashed.hexdigest()) is None

    def is_replaced(self) -> bool:
        """Return whether the file on this machine is another one now."""
        return isinstance(self.content, Path) and integrity.sha256_of(self.content) != self.sha256


def push(path: Path, sha256: str, target: HubReference, options: PushOptions, progress: Progress | None) -> PushResult:
    """Push to the Hub; see ``pushing.push``, which has verified the pack. ``sha256``: that of the verified file."""
    _check_target(target, options)
    try:
        return _push(path, sha256, target, options, progress)
    except ConflictError:
        # The commit that came first may be of this pack: a killed run requested it, and the registry completed it
        # later.
        with suppress(LottapackError):
            if not _push(path, sha256, target, replace(options, dry_run=True), None).sent:
                return _push(path, sha256, target, options, progress)
        raise


def _check_target(target: HubReference, options: PushOptions) -> None:
    """Raise InvalidReferenceError, or UnsupportedError for what only OCI registries have."""
    if target.revision:
        hint = f"Push to {target.repo} with `tag={target.revision}` (names the commit) or `branch={target.revision}`."
        raise InvalidReferenceError(
            f"{target}: a push creates a new commit, so the reference cannot have a revision", hint=hint
        )
    if target.server:
        hint = f"Set HF_ENDPOINT={target.server}, then push to {target.repo}."
        raise InvalidReferenceError(f"{target}: a push always goes to the server of HF_ENDPOINT", hint=hint)
    if options.modelpack:
        hint = "Leave out `modelpack`, or push to an OCI registry."
        raise UnsupportedError(f"{target}: only an OCI registry holds ModelPack manifests", hint=hint)
    for name, value in (("tag", options.tag), ("branch", options.branch)):
        if value is not None and not is_revision(value):
            raise InvalidReferenceError(
                f"`{name}={value!r}` cannot be the name of a {name}", hint="Use letters, digits, '-', '_', '.' and '/'."
            )


def _push(path: Path, sha256: str, target: HubReference, options: PushOptions, progress: Progress | None) -> PushResult:
    with translated(str(target)), _no_bars(), guarded():
        api = HfApi(library_name=LIBRARY)
        place = _look(target.repo, options)
        files = _files(path, place, sha256, options)
        known = [file for file in files if place.there and _is_there(place.repo, place.there, file)]
        new = [file for file in files if file not in known]
        stale = _stale(path, place) if path.name in [file.name for file in new] else []
        revision = place.there.commit if place.there and not new else None
        tagged = _is_tagged(place, options.tag, revision)
        if not options.dry_run:
            revision = _commit(api, place, new, stale, options, progress)
            if options.tag and not tagged:
                api.create_tag(place.repo, tag=options.tag, revision=revision)
                _require_tag(place.repo, options.tag, revision)
        return PushResult(
            reference=str(HubReference(target.repo, options.tag or options.branch)),
            revision=revision,
            sha256=sha256,
            size=files[0].size,
            sent=tuple(FileSize(file.name, file.size) for file in new),
            already=tuple(FileSize(file.name, file.size) for file in known),
            created=place.there is None,
            dry_run=options.dry_run,
            url=f"{api.endpoint}/{target.repo}/tree/{options.tag or options.branch or revision or 'main'}",
            removed=tuple(stale),
        )


def _look(repo: str, options: PushOptions) -> _Place:
    """Look up what exists now. Raises RegistryError if the repository is public but should be private."""
    branch = options.branch or constants.DEFAULT_REVISION
    there, exists = None, True
    try:
        there = hub_files.contents(repo, branch)
    except Refused as fault:
        if fault.code == "RevisionNotFound":
            there, exists = hub_files.contents(repo, None), False
        elif fault.code == "RepoNotFound" and fault.status == 404:
            exists = branch == constants.DEFAULT_REVISION
        else:
            raise
    if there and options.private and there.private is False:
        hint = "Leave out `private`, or make the repository private on the Hub first."
        raise RegistryError(f"{repo} already exists and is public, but the push should be private", hint=hint)
    return _Place(repo, branch, there, exists)


def _files(path: Path, place: _Place, sha256: str, options: PushOptions) -> list[_File]:
    """Return the files of the commit. Raises RegistryError if the repository has another pack."""
    there = place.there.files if place.there else {}
    others = [name for name in (place.there.packs() if place.there else []) if name != path.name]
    if others:
        hint = (
            f"Rename your pack to {others[0]}, or use another repository or branch, because a revision holds one pack."
        )
        raise RegistryError(f"{place.repo} already holds another pack, {answers.listed(others)}", hint=hint)
    signature = path.with_name(path.name + SIGNATURE_END)
    files = [_File(path.name, path, sha256, path.stat().st_size)]
    if signature.is_file():
        files.append(_File(signature.name, signature, integrity.sha256_of(signature), signature.stat().st_size))
    old = None
    if place.there and CARD in there:
        old = hub_files.fetch(place.repo, place.there, CARD, _MAX_CARD)[0].read_bytes()
    text = _card(path, place.repo, sha256, options, old)
    return [*files, _File(CARD, text, hashlib.sha256(text).hexdigest(), len(text))]


def _is_there(repo: str, there: Contents, file: _File) -> bool:
    """Return whether a commit has the file, and the registry still has its content, which it may have lost."""
    if not file.is_in(there.files):
        return False
    if isinstance(file.content, bytes):  # the card, which was just fetched
        return True
    try:
        with hub_http.file(repo, there.commit, file.name, f"{repo}/{file.name}", file.size - 1):
            return True
    except Refused as fault:
        if fault.status in _LOST:
            return False
        raise


def _stale(path: Path, place: _Place) -> list[str]:
    """Return the signature of the replaced pack, unless the new pack's signature replaces it."""
    signature = path.with_name(path.name + SIGNATURE_END)
    there = place.there.files if place.there else {}
    return [signature.name] if signature.name in there and not signature.is_file() else []


def _card(path: Path, repo: str, sha256: str, options: PushOptions, old: bytes | None) -> bytes:
    try:
        return card.card(path, repo, sha256, options, old.decode() if old else None).encode()
    except UnicodeDecodeError:  # a card that a person wrote, which stays
        assert old is not None
        return old


def _beginning(repo: str) -> str:
    """Return the first commit of a new repository. Raises ConflictError if another push came first."""
    made = hub_files.contents(repo, None)
    if made.files.keys() - {".gitattributes"}:
        hint = "Nothing was sent. Check what is there now, then push again."
        raise ConflictError(f"{repo} was created by somebody else at the same time, and already has files", hint=hint)
    return made.commit


def _is_tagged(place: _Place, tag: str | None, revision: str | None) -> bool:
    """Return whether the tag already names that commit. Raises ConflictError, before sending, if it names another."""
    if not tag or not place.there:
        return False
    tagged_commit = {ref.name: ref.target_commit for ref in hub.refs(place.repo).tags}.get(tag)
    if tagged_commit is not None and tagged_commit != revision:
        hint = f"Choose another tag, or delete this one: hf repos tag delete {place.repo} {tag}"
        raise ConflictError(
            f"{place.repo}: the tag {tag} already names commit {tagged_commit}; nothing was sent", hint=hint
        )
    return tagged_commit is not None


def _commit(
    api: HfApi,
    place: _Place,
    files: list[_File],
    stale: list[str],
    options: PushOptions,
    progress: Progress | None,
) -> str:
    """Create repository, branch and commit, each only if missing; return the commit."""
    if place.there is None:
        api.create_repo(place.repo, private=options.private, exist_ok=True)
        parent = _beginning(place.repo)
    else:
        parent = place.there.commit
    if not place.branch_exists:
        api.create_branch(place.repo, branch=place.branch, exist_ok=True)
    total = sum(file.size for file in files)
    if progress:
        progress(0, total)
    if files:
        adds = [CommitOperationAdd(file.name, file.content) for file in files]
        for file, add in zip(files, adds, strict=True):
            if add.upload_info.sha256.hex() != file.sha256:
                raise _replaced(file, "Nothing was sent. Push it again.")
        with _card_refused(place.repo):
            # With the parent, the registry refuses if anyone committed since the lookup, so that no card is lost.
            done = api.create_commit(
                place.repo,
                [*adds, *(CommitOperationDelete(name) for name in stale)],
                commit_message=options.message or f"Push {files[0].name} with lottapack",
                revision=place.branch,
                parent_commit=parent,
            )
        commit = str(done.oid)
        if not COMMIT.fullmatch(commit):
            raise RegistryError(
                f"{place.repo}: {constants.ENDPOINT} did not return the id of the commit", hint=answers.DISTRUST
            )
        _require_sent(place.repo, commit, files)
    else:
        assert place.there is not None
        commit = place.there.commit
    if progress:
        progress(total, total)
    return commit


def _require_sent(repo: str, commit: str, files: list[_File]) -> None:
    """Raise RegistryError unless a commit has the files: a registry may leave out what a ``.gitignore`` names.

    Raises IntegrityError for a file that was replaced on this machine meanwhile.
    """
    there = hub_files.contents(repo, commit).files
    lost = [file.name for file in files if not file.is_in(there)]
    for file in files:
        if file.name in lost and file.is_replaced():
            raise _replaced(file, f"Commit {commit} of {repo} may hold another file than was checked. Push it again.")
    if lost:
        hint = "Check the repository's .gitignore, then push again."
        raise RegistryError(
            f"{repo}: {constants.ENDPOINT} made commit {commit} without {answers.listed(lost)}", hint=hint
        )


def _replaced(file: _File, hint: str) -> IntegrityError:
    return IntegrityError(str(file.content), [Problem("sha256", "file", "was replaced while it was sent")], hint=hint)


def _require_tag(repo: str, tag: str, commit: str | None) -> None:
    """Raise RegistryError unless the tag names the commit: the client takes redirects for success."""
    if commit not in [ref.target_commit for ref in hub.refs(repo).tags if ref.name == tag]:
        hint = f"Commit {commit} is there. Push again, which only adds the tag."
        raise RegistryError(f"{repo}: {constants.ENDPOINT} did not create the tag {tag}", hint=hint)


@contextmanager
def _card_refused(repo: str) -> Iterator[None]:
    """Translate the client's plain ValueError for a card that the registry refuses."""
    try:
        yield
    except ValueError as fault:
        if not str(fault).startswith("Invalid metadata"):
            raise
        hint = f"Correct the front matter of the card (at {constants.ENDPOINT}/{repo}), or the arguments of push."
        raise RegistryError(
            f"{repo}: the registry refuses the card: {answers.printable(str(fault), 500)}", hint=hint
        ) from fault


@contextmanager
def _no_bars() -> Iterator[None]:
    """Disable the client's own progress bars, because the caller shows progress itself."""
    if are_progress_bars_disabled() or constants.HF_HUB_DISABLE_PROGRESS_BARS is not None:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
