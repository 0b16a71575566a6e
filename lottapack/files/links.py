"""Files in folders that are read: what a folder holds, and nobody named, is a regular file of its own.

A stranger's folder may hold a link to anything on this machine. What it leads to would end in a pack, and with the pack
wherever that is sent. It may also hold a pipe, and whoever reads one waits for ever.
"""

from pathlib import Path

from lottapack.errors import CheckpointError, LottapackError


def require_own_file(path: Path, folder: Path | None = None, error: type[LottapackError] = CheckpointError) -> None:
    """Refuse a file that a folder holds, and nobody named, if it is a link to somewhere else, or no regular file.

    A Hub's cache is an exception: its folders hold links to the blobs of the same repository.

    Args:
        path: the file. A path at which nothing is, or a circle of links, is left to who reads it.
        folder: what a person named; by default the file's own folder.
        error: what is raised.
    """
    try:
        real, root = path.resolve(strict=True), (folder or path.parent).resolve()
    except (OSError, RuntimeError, ValueError):
        return
    revision = next((place for place in (root, *root.parents) if place.parent.name == "snapshots"), None)
    in_cache = revision is not None and real.parent == revision.parent.parent / "blobs"
    if not (real.is_relative_to(root) or in_cache):
        raise error(
            f"{path} is a link out of its folder, to {real}",
            hint="If that is what you want, name the file itself, or copy it there.",
        )
    if not real.is_file():
        raise error(f"{path} is no regular file")
