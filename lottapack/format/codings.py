"""The codings of tensors, as entries of the descriptor name them (spec: codings, section 1)."""

from collections.abc import Iterator

from lottapack.codecs import CODECS
from lottapack.format.descriptor import Coding, Stored, TensorRecord

SEEDED = "seeded"
"""Of a tensor of an adapter that comes from the seed."""
SLICE = "slice"
"""Of a factor of an adapter: the first rows and columns of the same factor of another parameter's adapter."""
WITHOUT_BYTES = {SEEDED: frozenset(("distribution", "scale")), SLICE: frozenset(("of",))}
"""The codings of factors that have no tensor of their own in the file, with their fields beside the id."""

FIELDS = WITHOUT_BYTES | {codec.id: codec.fields for codec in CODECS.values()}
"""The fields of each coding beside its id."""


def is_lossy(entry: Stored | TensorRecord) -> bool:
    """Return whether a tensor may differ from the trained one because of its coding."""
    coding = entry.coding
    return isinstance(coding, Coding) and coding.id not in WITHOUT_BYTES and not CODECS[coding.id].exact


def coding_of(entry: object) -> Coding | None:
    """Return the coding of a parameter's entry, or None."""
    return entry.coding if isinstance(entry, Stored) and isinstance(entry.coding, Coding) else None


def coded_tensors(entry: Stored, coding: Coding) -> Iterator[tuple[str, str, tuple[int, ...] | None, str]]:
    """Yield (part, dtype, shape, sha256) of each tensor that the file holds for a coded parameter.

    The shape of a compressed tensor is None, because its size is not known in advance.
    """
    hashes = coding.parts()
    if coding.id not in WITHOUT_BYTES:
        for part, (dtype, shape) in CODECS[coding.id].parts(entry.shape).items():
            yield part, dtype, shape, hashes[part]
