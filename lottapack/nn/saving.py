"""Make ``from_pretrained`` refuse a folder from ``save_pretrained`` of a scaffolded model, which it cannot read.

Such a folder holds what was trained but no generated weights, which transformers would initialise at random with a
warning. So its ``config.json`` has a sentence instead of a file name under ``transformers_weights``: transformers
refuses what is not a file, and quotes the sentence. lottapack reads the folder like any other checkpoint.
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
from lottapack.arch.noted import noted
from lottapack.arch.walk import modules
from lottapack.files.output import atomic_file
from lottapack.format import recipe

SENTENCE: Final = (
    "none, because save_pretrained() of a scaffolded model only writes what was trained. Pack this folder with "
    "'lottapack pack FOLDER -o model.lotta.safetensors', then open the pack with lottapack.load()"
)
"""The text in ``config.json`` where transformers looks for the name of the weights."""

_UPLOAD: Final = "_upload_modified_files"


def mark_saved_folders(model: nn.Module) -> None:
    """Let ``save_pretrained`` of a scaffolded transformers model, or of such a model inside it, mark the folder."""
    for part in modules(model):
        if transformers_models.owns(part):
            part.__dict__["save_pretrained"] = partial(_save_pretrained, part)


def _save_pretrained(model: Any, *args: Any, **options: Any) -> Any:
    """Save like the class's own method, and mark the folder."""
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
    """Return whether the saved form is scaffolded: the model's own tensors, or a state_dict of these."""
    if state is None:
        return any(noted(module).sources for module in model.modules())
    return any(name.rpartition(".")[2] in (recipe.BUFFER, "lora_A") for name in state)


@contextmanager
def _marked_before_upload(model: Any, folder: Path) -> Iterator[None]:
    """Mark the folder before transformers uploads it, which ``push_to_hub=True`` does before returning."""

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
