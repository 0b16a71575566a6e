"""What pushing, pulling and looking into a registry give back, for every kind of registry alike."""

from dataclasses import dataclass
from pathlib import Path

from lottapack.display import Displayed, Facts
from lottapack.limits import size_text


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What a push is asked for, beside pack and place.

    ``tag`` names the new commit or image; ``branch`` is where the commit goes (Hub only), made if missing. ``license``,
    ``datasets`` and ``metrics`` go into the model card's front matter, ``results`` into a table of its text.
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


@dataclass(frozen=True, slots=True)
class FileSize:
    """A file of a push. ``size`` in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, repr=False)
class PushResult(Displayed):
    """A push that was done, or with ``dry_run`` one that would be.

    Attributes:
        reference: where it is now, with its tag or branch if it has one.
        revision: what never changes its meaning: the commit, or the manifest's digest. None if it is not known before
            the push is done.
        sha256, size: of the pack.
        sent: files that the registry did not have. already: files that it had, so that nothing was sent.
        created: whether the repository is new.
        url: where to look at it.
        removed: a signature that was there, and is not of this pack.
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

    def _facts(self) -> Facts:
        line = f"{'would send' if self.dry_run else 'sent'} {len(self.sent)} files, {len(self.already)} were there"
        more = {"revision": self.revision, "sha256": self.sha256, "url": self.url, "removed": ", ".join(self.removed)}
        rows = [(one.name, size_text(one.size), "sent") for one in self.sent]
        rows += [(one.name, size_text(one.size), "was there") for one in self.already]
        shown = {label: value for label, value in more.items() if value}
        return Facts(self.reference, line, shown, ("file", "size", ""), rows)


@dataclass(frozen=True, slots=True, repr=False)
class PullResult(Displayed):
    """A pack in the cache whose every hash was checked.

    Attributes:
        path: the file in the cache; not to be changed.
        reference: what was asked for. revision: the commit or manifest digest that it stood for.
        sha256, size: of the file, in bytes. received: how many of them came over the network now; 0 from the cache.
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
    """A repository with a pack in it. ``reference``: what to pull; ``modified``: ISO 8601, where the registry says."""

    reference: str
    modified: str | None = None
    private: bool | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit, or one tagged image. ``revision``: commit or digest; ``when``: ISO 8601, where the registry says."""

    revision: str
    names: tuple[str, ...] = ()
    """Tags and branches that stand for it now."""
    when: str | None = None
    title: str = ""
    authors: tuple[str, ...] = ()
