"""A callback of Lightning that packs the model when training ends. Extra: ``lightning``."""

import sys
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottapack.errors import ScaffoldError
from lottapack.extras import require
from lottapack.packing.compression import Compression
from lottapack.packing.pack import pack

if TYPE_CHECKING:
    from torch import nn

__all__ = ["PackCallback"]

_EXACT = Compression()

# Lightning comes under two names, and a trainer of one takes callbacks of that one.
_OTHER = "lightning.pytorch"
_LIGHTNING = _OTHER if _OTHER in sys.modules else "pytorch_lightning"
_Callback: Any = require(_LIGHTNING, "lightning", "a callback of Lightning").Callback


class PackCallback(_Callback):  # type: ignore[misc]
    """Write a pack when training ends: ``Trainer(callbacks=[PackCallback("model.lotta.safetensors")])``.

    Only the first process of a distributed training writes. Checkpoints of Lightning can be packed later too, with
    ``lottapack.pack(checkpoint, ...)``. Let Lightning's ``WeightAveraging`` average parameters only, as it does with
    ``use_buffers=False``: averages of buffers round the backbone, which the pack then stores.

    Args:
        path: the file to write, ``*.lotta.safetensors``.
        attribute: the attribute of the LightningModule that holds the scaffolded model.
        compression: as in lottapack.pack().

    Attributes:
        packed: the path of the pack, once it is written.

    Raises:
        UnsupportedError: Lightning is not installed.

    Source:
        https://lightning.ai/docs/pytorch/stable/extensions/callbacks.html

    Examples:
        >>> from lottapack.lightning import PackCallback
        >>> callback = PackCallback("trained.lotta.safetensors", attribute="net")
    """

    def __init__(
        self, path: str | PathLike[str], *, attribute: str = "model", compression: Compression = _EXACT
    ) -> None:
        self.path = Path(path)
        self.attribute = attribute
        self.compression = compression
        self.packed: Path | None = None

    def setup(self, trainer: Any, pl_module: "nn.Module", stage: str) -> None:  # noqa: ARG002 - Lightning's names
        """Check that the attribute exists, before hours of training."""
        if not hasattr(pl_module, self.attribute):
            raise ScaffoldError(
                f"{type(pl_module).__name__} does not have the attribute {self.attribute!r}",
                hint="Name the attribute that holds the scaffolded model: PackCallback(..., attribute=NAME).",
            )

    def on_fit_end(self, trainer: Any, pl_module: "nn.Module") -> None:
        """Write the pack."""
        if trainer.is_global_zero:
            self.packed = pack(getattr(pl_module, self.attribute), self.path, compression=self.compression).path
