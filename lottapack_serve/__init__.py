"""A registry server: the part of the Hugging Face Hub's protocol that packs need, on one folder.

``run`` serves until it is stopped, ``background`` while a block of code runs; ``tokens`` controls who may read and
write. Only serving needs the extra ``serve``.
"""

from typing import TYPE_CHECKING

from lottapack.extras import missing
from lottapack_serve import tokens
from lottapack_serve.backup import Copied, backup, restore
from lottapack_serve.checking import Damage, StoreCheck, check
from lottapack_serve.limits import Limits

if TYPE_CHECKING:
    from lottapack_serve.server import background, run

__all__ = ["Copied", "Damage", "Limits", "StoreCheck", "background", "backup", "check", "restore", "run", "tokens"]


def __getattr__(name: str) -> object:
    if name not in ("background", "run"):
        raise AttributeError(f"module 'lottapack_serve' has no attribute {name!r}")
    try:
        from lottapack_serve import server
    except ImportError as fault:
        raise missing("the registry server", fault.name or "a library", "serve", fault) from fault
    return getattr(server, name)
