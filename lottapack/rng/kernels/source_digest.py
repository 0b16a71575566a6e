"""Hash the sources that a kernel is compiled from."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def source_digest(module: str) -> str:
    """Return a hash of the sources of ``lottapack.rng`` and of all modules beside ``module``, in hexadecimal."""
    digest = hashlib.sha256()
    folders = [(Path(__file__).parents[1], "**/*.py")]
    spec = find_spec(module)
    if spec is not None and spec.origin is not None:
        folders.append((Path(spec.origin).parent, "*.py"))
    for folder, files in folders:
        for path in sorted(folder.glob(files)):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
