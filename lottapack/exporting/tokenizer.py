"""The tokenizer of a language model: in its pack, or in a folder."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lottapack.errors import UnsupportedError
from lottapack.exporting.export import write_files
from lottapack.folders.model_folders import json_bytes, transformers_config
from lottapack.format.files import TOKENIZER, files_of
from lottapack.format.packfile import open_pack


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer that a folder holds. Nothing is downloaded. Raises UnsupportedError."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        raise UnsupportedError(
            f"{folder} holds no tokenizer, and the prompt is text",
            hint="Name the folder of the model's tokenizer, or give token ids.",
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, ImportError, KeyError, TypeError) as fault:
        raise UnsupportedError(
            f"the tokenizer of {folder} cannot be opened: {fault}", hint="Give token ids, or another tokenizer."
        ) from fault


def own_tokenizer(path: Path) -> Any:
    """The tokenizer that a pack carries, or that lies beside it. Raises UnsupportedError."""
    with open_pack(path) as pack, TemporaryDirectory() as scratch:
        if not files_of(pack.descriptor).keys() & set(TOKENIZER):
            return tokenizer_in(path.parent)
        folder = Path(scratch) / "tokenizer"
        write_files(pack, folder)
        config = folder / "config.json"  # says whose tokenizer it is, where its own files do not
        config.write_bytes(json_bytes(transformers_config(pack.descriptor, None)))
        return tokenizer_in(folder)
