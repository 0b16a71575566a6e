"""The results of pushing, pulling and listing, for every kind of registry."""

from dataclasses import dataclass
from pathlib import Path

from lottapack.display import Displayed, Facts
from lottapack.limits import size_text


@dataclass(frozen=True, slots=True)
class PushOptions:
    """The options of a push, besides pack and target.

    ``tag`` names the new commit or image. ``branch`` is the branch to commit to (Hub only), created if missing.
    ``license``, ``datasets`` and ``metrics`` go into the model card's front matter, ``results`` into a table of its
    text. ``modelpack``: with a second manifest for other tools (OCI only).
    """

    tag: str | None = None
    branch: str | None = None
    private: bool = False
    dry_run: bool = False
    message: str | None = None
    license: str | None = None
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    results: tuple[tuple[str, str], ...] = ()
    modelpack: bool = False


@dataclass(frozen=True, slots=True)
class FileSize:
    """A file of a push. ``size`` in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, repr=False)
class PushResult(Displayed):
    """A push that was done, or with ``dry_run`` would be.

    Attributes:
        reference: the pushed reference, with its tag or branch if it has one.
        revision: the commit or the manifest's digest, whose meaning never changes. None if it is only known after the
            push.
        sha256, size: those of the pack.
        sent: files that the registry did not have. already: files that it had, which were not sent.
        created: whether the repository is new.
        url: the address of the result.
        removed: a previous signature, which is not of this pack.
        modelpack: the reference of the second manifest, if one was asked for.
    """

    reference: str
    revision: str | None
    sha256: str
    size: int
    sent: tuple[FileSize, ...]
    already: tuple[FileSize, ...]
    created: bool
    dry_run: bool
    url: str
    removed: tuple[str, ...] = ()
    modelpack: str | None = None

    def _facts(self) -> Facts:
        line = f"{'would send' if self.dry_run else 'sent'} {len(self.sent)} files, {len(self.already)} were there"
        more = {"revision": self.revision, "sha256": self.sha256, "url": self.url, "removed": ", ".join(self.removed)}
        rows = [(one.name, size_text(one.size), "sent") for one in self.sent]
        rows += [(one.name, size_text(one.size), "was there") for one in self.already]
        shown = {label: value for label, value in more.items() if value}
        return Facts(self.reference, line, shown, ("file", "size", ""), rows)


@dataclass(frozen=True, slots=True, repr=False)
class PullResult(Displayed):
    """A pack in the cache after every check.

    Attributes:
        path: the file in the cache; do not change it.
        reference: the requested reference. revision: the commit or manifest digest that it named.
        sha256, size: those of the file. received: how many bytes came over the network now; 0 from the cache.
    """

    path: Path
    reference: str
    revision: str
    sha256: str
    size: int
    received: int

    def _facts(self) -> Facts:
        line = f"{size_text(self.size)}, {size_text(self.received)} received"
        return Facts(self.reference, line, {"path": self.path, "revision": self.revision, "sha256": self.sha256})


@dataclass(frozen=True, slots=True)
class Listed:
    """A repository with a pack. ``reference``: what to pull. ``modified``: ISO 8601, if the registry gives it."""

    reference: str
    modified: str | None = None
    private: bool | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A commit, or a tagged image. ``revision``: commit or digest. ``when``: ISO 8601, if the registry gives it."""

    revision: str
    names: tuple[str, ...] = ()
    """The tags and branches that name it now."""
    when: str | None = None
    title: str = ""
    authors: tuple[str, ...] = ()
