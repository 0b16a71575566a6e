"""A folder from ``save_pretrained`` of a scaffolded model is refused by ``from_pretrained``, which cannot read it.

Such a folder holds what is trained and no generated weight. transformers would draw those at random and warn. Its
``config.json`` therefore names under ``transformers_weights`` no file but a sentence: transformers refuses what is no
file, and quotes it. lottapack reads the folder as any other checkpoint.
"""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from torch import nn

from lottapack.arch import transformers_models
from lottapack.files.output import atomic_file
from lottapack.format import recipe
from lottapack.nn.layer_weight import SOURCES

SENTENCE: Final = (
    "none, since save_pretrained() of a scaffolded model writes only what is trained. Pack this folder with "
    "'lottapack pack FOLDER -o model.lotta.safetensors', then open the pack with lottapack.load()"
)
"""What ``config.json`` says where transformers looks for the name of the weights."""

_UPLOAD: Final = "_upload_modified_files"


def mark_saved_folders(model: nn.Module) -> None:
    """Let ``save_pretrained`` of a scaffolded transformers model, or of such a model inside it, mark the folder."""
    for part in model.modules():
        if transformers_models.owns(part):
            part.__dict__["save_pretrained"] = partial(_save_pretrained, part)


def _save_pretrained(model: Any, *args: Any, **options: Any) -> Any:
    """As the class's own method."""
    save = type(model).save_pretrained
    given = inspect.signature(save).bind(model, *args, **options).arguments
    folder = Path(given["save_directory"])
    if not given.get("is_main_process", True) or not _lacks_weights(model, given.get("state_dict")):
        return save(model, *args, **options)
    with _marked_before_upload(model, folder):
        result = save(model, *args, **options)
    _mark(folder)
    return result


def _lacks_weights(model: nn.Module, state: Any) -> bool:
    """Whether what is saved is in a scaffolded form: the model's own tensors, or a state_dict of these."""
    if state is None:
        return any(SOURCES in module.__dict__ for module in model.modules())
    return any(name.rpartition(".")[2] in (recipe.BUFFER, "lora_A") for name in state)


@contextmanager
def _marked_before_upload(model: Any, folder: Path) -> Iterator[None]:
    """With ``push_to_hub=True`` transformers uploads the folder before it returns."""

    def upload(*args: Any, **options: Any) -> Any:
        _mark(folder)
        return getattr(type(model), _UPLOAD)(model, *args, **options)

    model.__dict__[_UPLOAD] = upload
    try:
        yield
    finally:
        del model.__dict__[_UPLOAD]


def _mark(folder: Path) -> None:
    path = folder / "config.json"
    if path.is_file():
        said = json.loads(path.read_text("utf-8"))
        with atomic_file(path) as file:
            file.write(json.dumps({**said, "transformers_weights": SENTENCE}, indent=2).encode() + b"\n")
