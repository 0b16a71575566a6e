"""Record the tools that wrote a pack."""

import contextlib
from importlib import metadata

import torch

from lottapack import arch
from lottapack.format.descriptor import Architecture
from lottapack.version import __version__


def provenance(architecture: Architecture) -> dict[str, str]:
    """Return the tools' versions without local build tags, so that CPU and GPU machines write the same bytes."""
    recorded = {"lottapack": __version__, "torch": torch.__version__.split("+")[0]}
    for name in arch.tools(architecture):
        with contextlib.suppress(metadata.PackageNotFoundError):  # a module without a distribution
            recorded.setdefault(name, metadata.version(name).split("+")[0])
    return recorded
