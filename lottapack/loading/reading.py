"""The options for reading a pack, in one record."""

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
    """The options for reading a pack. The public functions take these fields as keywords.

    Attributes:
        scaffold: the name of one of the pack's scaffolds; by default that of its main seed.
        max_bytes: the most memory to use; by default what is free. It is checked before any is allocated.
        allow: packages or modules whose code the caller trusts, for packs of the family ``python``: ``["ncps"]`` allows
            ``ncps`` and everything inside it. Nothing else is imported, whatever the pack says.
        require_signature: a public key in PEM. ``<pack>.sig`` must be a signature of this file by its private key.
            Exactly the signed bytes are loaded, even if someone writes to the file meanwhile.
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
        """Open the pack of a path or reference, and check its signature; inside, ``allow`` applies to imports."""
        with allowing(self.allow), open_pack(local(path), self.scaffold) as pack:
            if self.require_signature is not None:
                check_signature(pack, self.require_signature)
            yield pack
