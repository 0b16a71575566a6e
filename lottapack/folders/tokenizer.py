"""Open the tokenizer of a language model from its pack, or from a folder."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lottapack.errors import UnsupportedError
from lottapack.folders.companions import write_files
from lottapack.folders.model_folders import json_bytes, transformers_config
from lottapack.format.files import TOKENIZER, files_of
from lottapack.format.packfile import open_pack


def tokenizer_in(folder: Path) -> Any:
    """Return the tokenizer of a folder. Nothing is downloaded. Raises UnsupportedError."""
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        raise UnsupportedError(
            f"{folder} does not contain a tokenizer, which a text prompt needs",
            hint="Pass the folder of the model's tokenizer, or token ids instead of a prompt.",
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, ImportError, KeyError, TypeError) as fault:
        raise UnsupportedError(
            f"cannot open the tokenizer in {folder}: {fault}", hint="Pass token ids, or another tokenizer."
        ) from fault


def own_tokenizer(path: Path) -> Any:
    """Return the tokenizer in a pack, or else the one beside it. Raises UnsupportedError."""
    with open_pack(path) as pack, TemporaryDirectory() as scratch:
        if not files_of(pack.descriptor).keys() & set(TOKENIZER):
            return tokenizer_in(path.parent)
        folder = Path(scratch) / "tokenizer"
        write_files(pack, folder)
        config = folder / "config.json"  # names the tokenizer's class if its own files do not
        config.write_bytes(json_bytes(transformers_config(pack.descriptor, None)))
        return tokenizer_in(folder)
