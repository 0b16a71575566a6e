"""build(): models that cannot say how they were built, built by name, so that they can be packed."""

from typing import Any

from torch import nn

from lottapack import arch
from lottapack.arch.remembered import remember
from lottapack.arch.sealed import sealed
from lottapack.arch.skeleton import named
from lottapack.arch.trust import allowing
from lottapack.errors import ArchitectureError
from lottapack.format.arguments import encode


def build(family: str, class_: str, /, **arguments: Any) -> nn.Module:
    """Build a model by its import path, or by the name that timm has for it; it remembers both, and can be packed.

    Args:
        family: ``"python"``: a subclass of ``torch.nn.Module`` in an importable module; or ``"timm"``.
        class_: ``"package.module:Class"``; or the name of a timm model, without a tag, such as
            ``"vit_base_patch16_224"``. No pretrained weights are loaded.
        arguments: of the call: numbers, booleans, strings, None, lists, tuples and dicts of these. An object is written
            as ``{"class": "package.module:Class", "config": {...}}`` (not for timm).

    Returns:
        The model with its library's own initialisation, on the CPU, for scaffold() to redraw.

    Raises:
        ArchitectureError: an argument is not data, or the class is none of its module's own. UnsupportedError: the
            package is not installed.

    What loads the pack must allow the packages by name: ``load(path, allow=[...])``. Spec: architectures.

    Source:
        spec/v1/architectures.md.

    Examples:
        >>> model = lottapack.build("python", "ncps.torch:CfC", input_size=3, units=8)
        >>> model = lottapack.scaffold(model, seed=1, rank=2)
    """
    found = next((known for known in arch.families() if known.name == family and known.remembers), None)
    if found is None:
        raise ArchitectureError(
            f"family={family!r}: models of the families python and timm are built by name",
            hint="Build others as usual: their modules say by themselves what they are.",
        )
    architecture = arch.checked(family, class_, {name: encode(name, value) for name, value in arguments.items()})
    with allowing(arch.packages(architecture)), named(class_):
        found.prepare(architecture.class_, architecture.config)
    with allowing(arch.packages(architecture)), named(class_), sealed():
        model = found.draw(architecture.class_, architecture.config)
    remember(model, architecture)
    return model
