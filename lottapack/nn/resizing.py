"""Methods of transformers models that resize or replace an embedding or head: refused for generated layers.

They would change a part of the model and its configuration before they fail, or train a layer that a pack cannot store.
Layers trained in full are resized as in any model.
"""

import inspect
from functools import partial
from typing import Any, Final

from torch import nn

from lottapack.arch import transformers_models
from lottapack.errors import ScaffoldError
from lottapack.nn.generated_layer import GeneratedLayer
from lottapack.nn.layer_weight import SOURCES, name_of

_GETTERS: Final = {
    "resize_token_embeddings": ("get_input_embeddings", "get_output_embeddings"),
    "resize_position_embeddings": ("get_position_embeddings",),
    "set_input_embeddings": ("get_input_embeddings",),
    "set_output_embeddings": ("get_output_embeddings",),
}
"""By method: the getters of the layers that it resizes or replaces."""


def guard_resizing(model: nn.Module) -> None:
    """Make these methods of a scaffolded transformers model, and of such models inside it, refuse generated layers."""
    for part in model.modules():
        if transformers_models.owns(part):
            for name in _GETTERS:
                if hasattr(type(part), name):
                    part.__dict__[name] = partial(_guarded, part, name)


def _guarded(model: Any, name: str, *args: Any, **options: Any) -> Any:
    """Call the class's own method after checking the layers. Raises ScaffoldError before any change."""
    method = getattr(type(model), name)
    given = list(inspect.signature(method).bind(model, *args, **options).arguments.values())[1:]
    for getter in _GETTERS[name]:
        try:
            layer = getattr(model, getter)()
        except NotImplementedError:  # the method itself raises it too
            continue
        generated = isinstance(layer, GeneratedLayer) or (layer is not None and SOURCES in layer.__dict__)
        if generated and not _stays(layer, *given):
            raise ScaffoldError(
                f"{name_of(layer)} is generated from its seed, so {name}() cannot change it",
                hint="Resize and replace layers before scaffold(); or scaffold with this layer in `train`, not in "
                "`targets`, so that it is trained in full.",
            )
    return method(model, *args, **options)


def _stays(layer: Any, new: Any = None, multiple: Any = None, *_: Any) -> bool:
    """Return whether a call does not change a layer: the same layer, or the same number of rows."""
    if new is layer:
        return True
    rows = layer.weight.shape[0]
    count = rows if new is None else new
    return isinstance(count, int) and count == rows and not (multiple and rows % multiple)
