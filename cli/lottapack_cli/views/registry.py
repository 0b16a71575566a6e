"""Results of a registry: a push, a pull, a list, a log."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lottapack.folders.shards import size_of
from lottapack.limits import size_text
from lottapack.registry import Listed, LogEntry, PullResult, PushResult
from lottapack_cli.render import Part, table, when

_SHORT = 12
"""Characters of a commit or digest in a list; with --json it is not shortened."""


def pushed(result: PushResult) -> Iterator[Part]:
    """Yield what was sent and what existed already, then the reference to pull."""
    verb = "would push" if result.dry_run else "pushed" if result.sent else "nothing new for"
    place = f"{result.reference}{' (new repository)' if result.created else ''}"
    yield f"{verb} {place}  {size_text(result.size)}"
    files = [(file, "would send" if result.dry_run else "sent") for file in result.sent]
    files += [(file, "there already") for file in result.already]
    rows = [[file.name, size_text(file.size), what] for file, what in files]
    rows += [[name, "", "would remove" if result.dry_run else "removed"] for name in result.removed]
    yield table(["file", ">size", ""], rows)
    if result.revision:
        yield f"{_kind(result.revision)} {result.revision}"
    yield f"sha256 {result.sha256}"
    if result.modelpack:
        yield f"{'would also put' if result.dry_run else 'also'} {result.modelpack}"
    if not result.dry_run:
        yield result.url


def pulled(result: PullResult, exported: Path | None) -> Iterator[Part]:
    """Yield the reference, how the pack was received, and last its path."""
    how = f"{size_text(result.received)} received" if result.received else "from the cache"
    yield f"pulled {result.reference}  {size_text(result.size)}, {how}"
    yield f"{_kind(result.revision)} {result.revision}"
    yield f"sha256 {result.sha256}  verified"
    if exported is not None:
        yield f"exported {exported}  {size_text(size_of(exported))}"
    yield str(result.path)


def listed(owner: str, packs: Sequence[Listed]) -> Iterator[Part]:
    """Yield one line for each repository."""
    if not packs:
        yield f"no packs of {owner}"
        return
    visible = {None: "", True: "private", False: "public"}
    yield table(
        ["reference", "changed", ""],
        ([pack.reference, when(pack.modified), visible[pack.private]] for pack in packs),
    )


def logged(entries: Sequence[LogEntry]) -> Iterator[Part]:
    """Yield one line for each commit or image."""
    yield table(
        ["revision", "names", "when", "title", "by"],
        (
            [_shorten(entry.revision), ", ".join(entry.names), when(entry.when), entry.title, ", ".join(entry.authors)]
            for entry in entries
        ),
    )


def _kind(revision: str) -> str:
    return "digest" if revision.startswith("sha256:") else "commit"


def _shorten(revision: str) -> str:
    kind, colon, digits = revision.rpartition(":")
    return f"{kind}{colon}{digits[:_SHORT]}"
