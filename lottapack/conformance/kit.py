"""The conformance kit: a folder or an archive with ``index.tsv`` and the packs that it names."""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lottapack.errors import NotFoundError

INDEX = "index.tsv"
LEVELS = ("load", "judge")
_CHECKOUT = Path(__file__).parents[2] / "spec" / "v1" / "vectors"


class Case(NamedTuple):
    """A line of the index: the level that must answer it, the request's fields and those of the answer."""

    level: str
    request: tuple[str, ...]
    answer: tuple[str, ...]

    @property
    def place(self) -> str:
        """The request in a few words."""
        shown = " ".join(self.request)
        return shown if len(shown) <= 100 else f"{shown[:97]}..."


@contextmanager
def opened(path: Path | None) -> Iterator[Path]:
    """Yield the folder of a kit. ``path``: a folder or an archive; None for the vectors of this checkout.

    Raises NotFoundError if the index is missing.
    """
    found = _CHECKOUT if path is None else path
    with tempfile.TemporaryDirectory() as made:
        if found.is_file():
            with tarfile.open(found) as archive:
                archive.extractall(made, filter="data")
            found = Path(made)
        if not (found / INDEX).is_file():
            raise NotFoundError(
                f"{found} does not contain {INDEX}",
                hint="Pass a kit. `make kit` in a checkout of lottapack writes one.",
            )
        yield found


def cases(folder: Path) -> list[Case]:
    """Return the cases of a kit's index, in its order."""
    found = []
    for line in (folder / INDEX).read_text("utf-8").removesuffix("\n").split("\n"):
        fields = line.split("\t")
        split = fields.index("=")
        found.append(Case(fields[0], tuple(fields[1:split]), tuple(fields[split + 1 :])))
    return found
