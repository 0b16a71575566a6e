"""Write folders that other libraries open: a pack beside the ``config.json`` that names it."""

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

from lottapack.arch.labels import with_labels
from lottapack.errors import UnsupportedError
from lottapack.files.staging import staged_folder
from lottapack.folders import companions
from lottapack.format.container import PACK_END
from lottapack.format.descriptor import DEFAULT_SCAFFOLD, Descriptor, Tied
from lottapack.format.files import ADAPTER, GENERATION, files_of
from lottapack.format.packfile import PackFile
from lottapack.format.shapes import numel
from lottapack.limits import check_disk

PACK_NAME = f"model{PACK_END}"
"""The file name of a pack in such a folder."""


IMPORT_FIRST = "a lottapack pack, which opens once you have said: import lottapack (pip install lottapack)"
"""The text in a folder's ``config.json`` for those who open it without lottapack."""

README = b"""\
# A model as a lottapack pack

`%s` holds the whole model: a random backbone that is generated again from its seed, and what was learned on it.

```python
import lottapack  # before from_pretrained: it tells transformers how such a folder is opened
from transformers import AutoModel  # or the class for the task, or pipeline()

model = AutoModel.from_pretrained("this folder")
```

Without `import lottapack` transformers refuses the folder. For tools that cannot import it, write plain weights:
`lottapack export %s -o FOLDER --format transformers`.
""" % (PACK_NAME.encode(), PACK_NAME.encode())


def json_bytes(value: dict[str, Any]) -> bytes:
    """Format JSON for people and other libraries."""
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def write_pack_folder(pack: PackFile, folder: Path, dtype: str | None = None) -> Path:
    """Copy an open pack into a folder, with a ``config.json`` by which transformers' ``from_pretrained`` rebuilds it.

    ``dtype``: the dtype to load in by default; None for the recorded one.

    Returns the copy's path. Raises UnsupportedError for a model that is not a transformers model; OutputError.
    """
    require_transformers(pack)
    check_disk(str(pack.path), pack.file_size, folder if folder.is_dir() else folder.parent)
    config = pack_config(pack.descriptor, PACK_NAME, dtype)
    if pack.scaffold != DEFAULT_SCAFFOLD:
        config["quantization_config"]["scaffold"] = pack.scaffold
    companions.refuse_others(pack, folder, leave=(ADAPTER,))
    gone = () if GENERATION in files_of(pack.descriptor) else (GENERATION,)  # remove another model's
    sources = [pack.path] if pack.path.name != PACK_NAME else []  # only its copy may replace a pack
    with staged_folder(folder, entries=("config.json",), gone=gone, sources=sources) as opened:
        companions.write(pack, opened, leave=(ADAPTER,))
        with opened(PACK_NAME) as file:
            pack.copy_to(file)
        if not (folder / "README.md").exists():
            with opened("README.md") as file:
                file.write(README)
        with opened("config.json") as file:
            file.write(json_bytes(config))
    return folder / PACK_NAME


def require_transformers(pack: PackFile) -> None:
    """Raise UnsupportedError unless the pack holds a transformers model."""
    family = pack.descriptor.architecture.family
    if family != "transformers":
        raise UnsupportedError(
            f"{pack.path} holds a {family} model, not a transformers model", hint="Export it as safetensors."
        )


def pack_config(descriptor: Descriptor, pack_name: str, dtype: str | None = None) -> dict[str, Any]:
    """Return the ``config.json`` of a folder whose weights are the pack ``pack_name``."""
    return {
        **transformers_config(descriptor, dtype),
        "quantization_config": {"quant_method": "lottapack", "pack": pack_name},
        "transformers_weights": IMPORT_FIRST,  # without lottapack, transformers quotes this in its error
    }


def transformers_config(descriptor: Descriptor, dtype: str | None) -> dict[str, Any]:
    """Return the ``config.json`` of the plain model."""
    count: dict[str, int] = {}
    for entry in descriptor.parameters.values():
        if not isinstance(entry, Tied) and "float" in entry.dtype:
            count[entry.dtype] = count.get(entry.dtype, 0) + numel(entry.shape)
    recorded = max(count, key=lambda name: count[name], default="float32")
    return {
        **with_labels(descriptor.architecture.config),
        "architectures": [descriptor.architecture.class_],
        "dtype": dtype or recorded,
    }


def is_folder(given: str | PathLike[str]) -> bool:
    """Return whether a path means a folder: it exists, or ends in a slash, which Path alone would drop."""
    return Path(given).is_dir() or str(given).endswith(("/", os.sep))
