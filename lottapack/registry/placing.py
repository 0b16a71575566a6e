"""Copy a pulled pack, with its signature, out of the cache."""

import hashlib
import os
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike

from lottapack.errors import IntegrityError, OutputError, Problem
from lottapack.files.output import atomic_file, refuse_over
from lottapack.files.paths import path_of
from lottapack.format.container import SIGNATURE_END
from lottapack.limits import check_disk
from lottapack.registry.records import PullResult

_PIECE = 1 << 20


def place(pulled: PullResult, output: str | PathLike[str]) -> PullResult:
    """Copy a pulled pack; return the result with the path of the copy. The copied bytes are hashed once more.

    Raises IntegrityError, LimitError, OutputError.
    """
    target = path_of(output, "output")
    if target.is_dir() or str(output).endswith(("/", "\\")):
        target = target / pulled.path.name
    refuse_over(target, pulled.path)
    signature, beside = (path.with_name(path.name + SIGNATURE_END) for path in (pulled.path, target))
    if beside.exists() and not signature.is_file():
        raise OutputError(
            f"{beside} is the signature of another pack, and {pulled.reference} does not have one",
            hint="Remove that signature, or name another file. Nothing was written.",
        )
    check_disk(pulled.reference, pulled.size, target.parent)
    digest = hashlib.sha256()
    with ExitStack() as stack:
        if signature.is_file():  # on disk before the pack takes its name, which it then follows at once
            other = stack.enter_context(atomic_file(beside))
            other.write(signature.read_bytes())
            other.flush()
            os.fsync(other.fileno())
        file, source = stack.enter_context(atomic_file(target)), stack.enter_context(pulled.path.open("rb"))
        while piece := source.read(_PIECE):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != pulled.sha256:
            changed = Problem(
                "sha256", "file", f"has the SHA-256 {digest.hexdigest()}, which was {pulled.sha256} before"
            )
            raise IntegrityError(
                str(pulled.path), [changed], hint="It changed while it was being copied. Pull it again."
            )
    return replace(pulled, path=target)
