"""Which tools wrote a pack."""

import contextlib
from importlib import metadata

import torch

from lottapack import arch
from lottapack.format.descriptor import Architecture
from lottapack.version import __version__


def provenance(architecture: Architecture) -> dict[str, str]:
    """Versions of the tools, without local build tags, so that CPU and GPU machines write the same bytes."""
    found = {"lottapack": __version__, "torch": torch.__version__.split("+")[0]}
    for name in arch.tools(architecture):
        with contextlib.suppress(metadata.PackageNotFoundError):  # a module that belongs to no distribution
            found.setdefault(name, metadata.version(name).split("+")[0])
    return found
