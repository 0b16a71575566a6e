"""What a caller accepts of a pack and trusts, in one record."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

from lottapack.arch.trust import allowing
from lottapack.format.packfile import PackFile, open_pack
from lottapack.registry.local import local
from lottapack.signing import check_signature


@dataclass(frozen=True, slots=True)
class Reading:
    """How a pack is read. The public functions take these fields as keywords.

    Attributes:
        scaffold: which of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory to take; by default what is free. It is checked before any is taken.
        allow: packages or modules whose code the caller trusts, for packs of the family ``python``: ``["ncps"]`` allows
            ``ncps`` and all that is inside it. Nothing else is imported, whatever the pack says.
        require_signature: a public key in PEM. ``<pack>.sig`` must be a signature of this file by its private key;
            what was signed is what is loaded, even if someone writes to the file meanwhile.
        check_fingerprints: compare each rebuilt tensor with its fingerprint. (The SHA-256 of each tensor in the file is
            always checked.)
    """

    scaffold: str | None = None
    max_bytes: int | None = None
    allow: str | Iterable[str] = ()
    require_signature: str | PathLike[str] | None = None
    check_fingerprints: bool = False

    @contextmanager
    def open(self, path: str | PathLike[str]) -> Iterator[PackFile]:
        """The pack of a path or reference, its signature checked; within, what ``allow`` names may be imported."""
        with allowing(self.allow), open_pack(local(path), self.scaffold) as pack:
            if self.require_signature is not None:
                check_signature(pack, self.require_signature)
            yield pack
