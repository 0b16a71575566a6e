"""Check files that a folder contains but the user did not name: they must be regular files inside that folder.

A folder from someone else may contain a link to any file of this machine. Following it would copy that file into a
pack, and send it wherever the pack goes. The folder may also contain a pipe, and reading a pipe can block forever.
"""

from pathlib import Path

from lottapack.errors import CheckpointError, LottapackError


def require_own_file(path: Path, folder: Path | None = None, error: type[LottapackError] = CheckpointError) -> None:
    """Raise an error if an unnamed file of a folder links to somewhere else, or is not a regular file.

    A Hub cache is an exception: its folders contain links to the blobs of the same repository.

    Args:
        path: the file. If nothing is there, or a circle of links, the caller's own reading reports it.
        folder: the folder that the user named; by default the file's own folder.
        error: the class of the error.
    """
    try:
        real, root = path.resolve(strict=True), (folder or path.parent).resolve()
    except (OSError, RuntimeError, ValueError):
        return
    revision = next((parent for parent in (root, *root.parents) if parent.parent.name == "snapshots"), None)
    in_cache = revision is not None and real.parent == revision.parent.parent / "blobs"
    if not (real.is_relative_to(root) or in_cache):
        raise error(
            f"{path} links to {real}, outside of its folder",
            hint="If you want that file, name it directly, or copy it into the folder.",
        )
    if not real.is_file():
        raise error(f"{path} is not a regular file", hint="Replace it with a regular file, or remove it.")
