"""The family ``timm``: a model by its name in timm's registry (spec: architectures, section 4)."""

import logging
import sys
from typing import Any

from torch import nn

from lottapack.arch import remembered
from lottapack.arch.family import Family
from lottapack.arch.versions import require_sound
from lottapack.errors import ArchitectureError, UnsupportedError
from lottapack.format.arguments import decode

_log = logging.getLogger(__name__)


def _library() -> Any:
    if "timm" not in sys.modules:
        _log.info("importing timm")
    try:
        import timm
    except ImportError as fault:
        raise UnsupportedError(
            "the model needs timm, which is not installed",
            hint="Install it with the torchvision that fits your torch: pip install 'lottapack[timm]'",
        ) from fault
    require_sound("timm")
    return timm


def construct(class_name: str, config: dict[str, Any]) -> nn.Module:
    """Call ``timm.create_model``, which does not load weights: arguments that could make it do so were refused."""
    library = _library()
    from timm.models import is_model, model_entrypoint

    # Other packages may register models of their own, whose code nobody allowed.
    if not is_model(class_name) or not model_entrypoint(class_name).__module__.startswith("timm."):
        raise ArchitectureError(
            f"timm does not have its own model {class_name!r}",
            hint="Install the timm version that the pack was made with.",
        )
    arguments = {name: decode(value, _refuse, _refuse) for name, value in config.items()}
    model: nn.Module = library.create_model(class_name, pretrained=False, **arguments)
    return model


def _refuse(path: str, _: dict[str, Any] | None = None) -> Any:
    raise ArchitectureError(
        f"{path}: a timm model cannot take classes as arguments", hint="Pass plain data."
    )  # pragma: no cover (checked before)


def heads(model: nn.Module) -> set[str]:
    """Return the names of the layers that timm calls classifiers."""
    classifier: Any = getattr(model, "get_classifier", None)
    classifiers = None if classifier is None else classifier()
    parts = classifiers if isinstance(classifiers, tuple | list) else [classifiers]
    return {name for name, module in model.named_modules() if any(module is part for part in parts)}


FAMILY = Family(
    name="timm",
    owns=lambda model: remembered.family(model) == "timm",
    describe=remembered.describe,
    construct=construct,
    draw=construct,
    heads=heads,
    tools=lambda _, __: ("timm",),
    remembers=True,
    fills=lambda _, __: True,
    numbers="sizes",
    prepare=lambda _, __: _library(),
)
