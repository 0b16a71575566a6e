"""build(): build a model by name, for models that do not record how they were built, so that they can be packed."""

from typing import Any

from torch import nn

from lottapack import arch
from lottapack.arch.remembered import remember
from lottapack.arch.sealed import sealed
from lottapack.arch.skeleton import named
from lottapack.arch.trust import allowing
from lottapack.errors import ArchitectureError
from lottapack.format.arguments import encode

_COMPARE = (
    'Compare the arguments with the constructor\'s. Pass a class itself as {"class": "package.module:Class"}, without '
    "config."
)


def build(family: str, class_: str, /, **arguments: Any) -> nn.Module:
    """Build a model from its import path or its timm name. The model remembers both, so that it can be packed.

    Args:
        family: ``"python"``: a subclass of ``torch.nn.Module`` in an importable module; or ``"timm"``.
        class_: ``"package.module:Class"``; or the name of a timm model, without a tag, such as
            ``"vit_base_patch16_224"``. No pretrained weights are loaded.
        arguments: the arguments of the call: numbers, booleans, strings, None, lists, tuples and dicts of these.
            For ``"python"`` also classes and functions of a module, which may be written as
            ``{"class": "package.module:Class"}``, and objects, written as
            ``{"class": "package.module:Class", "config": {...}}``.

    Returns:
        The model on the CPU with its library's own initialisation, ready for scaffold().

    Raises:
        ArchitectureError: an argument is not plain data, or the class is not defined in the named module.
        UnsupportedError: the package is not installed.

    What loads the pack must allow the packages by name: ``load(path, allow=[...])``. Spec: architectures.

    Source:
        spec/v1/architectures.md.

    Examples:
        >>> model = lottapack.build("python", "ncps.torch:CfC", input_size=3, units=8)
        >>> model = lottapack.scaffold(model, seed=1, rank=2)
    """
    builder = next((known for known in arch.families() if known.name == family and known.remembers), None)
    if builder is None:
        raise ArchitectureError(
            f"family={family!r}: build() only builds models of the families python and timm",
            hint='Pass "python" or "timm". Build other models as usual: they record how they were built.',
        )
    architecture = arch.checked(family, class_, {name: encode(name, value) for name, value in arguments.items()})
    with allowing(arch.packages(architecture)), named(class_, _COMPARE):
        builder.prepare(architecture.class_, architecture.config)
    with allowing(arch.packages(architecture)), named(class_, _COMPARE), sealed():
        model = builder.draw(architecture.class_, architecture.config)
    remember(model, architecture)
    return model
