"""lottapack: neural networks with a random, frozen backbone as one small file, rebuilt bit for bit on any device.

``__init__.pyi`` lists the public names. Python imports each name when it is first used, so that ``import lottapack``
is quick and code that needs no tensors never imports torch.
"""

import logging
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from lottapack import errors as errors
from lottapack import forking as forking
from lottapack.errors import LottapackError as LottapackError
from lottapack.extras import without_torch
from lottapack.integrations import install as _install
from lottapack.version import __version__ as __version__

_LIST = Path(__file__).with_suffix(".pyi").read_text("utf-8")
_HOME = {name: module for module, name in re.findall(r"^from (\S+) import (\w+) as \2$", _LIST, re.MULTILINE)}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lottapack' has no attribute {name!r}")
    try:
        found = vars(import_module(_HOME[name])).get(name)
        return import_module(f"{_HOME[name]}.{name}") if found is None else found
    except ModuleNotFoundError as fault:
        raise without_torch(fault, f"lottapack.{name}") from fault


def __dir__() -> list[str]:
    return sorted({*_HOME, *(name for name in globals() if name.startswith("__"))})


logging.getLogger("lottapack").addHandler(logging.NullHandler())
_install()
