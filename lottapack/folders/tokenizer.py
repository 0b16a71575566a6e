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
            f"the folder {folder} does not contain a tokenizer, which a text prompt needs",
            hint="Pass the folder of its tokenizer as `tokenizer`, or token ids as `tokens` instead of a prompt.",
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as fault:
        raise _refused(f"cannot open the tokenizer in {folder}", fault) from fault


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text. Raises UnsupportedError for a tokenizer that cannot split it."""
    try:
        return list(tokenizer(text)["input_ids"])
    except Exception as fault:
        raise _refused("the tokenizer cannot split the text", fault) from fault


def _refused(what: str, fault: Exception) -> UnsupportedError:
    """Return the error for a tokenizer's files: the libraries raise anything for those that they do not expect."""
    said = " ".join(str(fault).split())[:500] or type(fault).__name__
    return UnsupportedError(f"{what}: {said}", hint="Pass token ids, or another tokenizer.")


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
