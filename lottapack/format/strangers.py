"""Recognise other files that are passed by mistake in place of a pack, and suggest the next step."""

import os
from pathlib import Path

PACK_IT = "Make a pack of it: lottapack pack {path}."
_NO_PACK = "Name a pack, a .lotta.safetensors file."

_BEGINNINGS = (
    (b"\x89PNG\r\n", "a PNG picture", _NO_PACK),
    (b"\xff\xd8\xff", "a JPEG picture", _NO_PACK),
    (b"GIF8", "a GIF picture", _NO_PACK),
    (b"<svg", "an SVG picture", _NO_PACK),
    (b"%PDF", "a PDF document", _NO_PACK),
    (b"\x93NUMPY", "a NumPy array", _NO_PACK),
    (b"GGUF", "a GGUF file", "lottapack does not read GGUF. Pack the checkpoint that it was made from."),
    (
        b"\x89HDF",
        "an HDF5 file",
        "lottapack does not read HDF5. Pack a state_dict that torch.save wrote.",
    ),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "Fetch the file: git lfs pull."),
    (b"<!doctype html", "a web page", "Download the file itself, not the page that shows it."),
    (b"<html", "a web page", "Download the file itself, not the page that shows it."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"{", "a JSON file", _NO_PACK),
    (b"-----BEGIN", "a key or certificate in PEM", _NO_PACK),
)
_ZIP, _PICKLE, _TORCH_ENTRY = b"PK\x03\x04", tuple(bytes([0x80, protocol]) for protocol in range(2, 6)), b"data.pkl"


def kind_of(path: str, beginning: bytes) -> tuple[str, str] | None:
    """Return the kind of a file and the next step, or None if its first few hundred bytes do not show it."""
    if beginning.startswith(_ZIP):
        if _TORCH_ENTRY in beginning:
            return "a checkpoint that torch.save wrote", PACK_IT.format(path=path)
        return "a ZIP archive", "Unpack it first."
    if beginning.startswith(_PICKLE):
        return "a pickle, such as an old checkpoint of torch.save", PACK_IT.format(path=path)
    text = beginning.lstrip()
    for begin, kind, step in _BEGINNINGS:
        if beginning.startswith(begin) or text[: len(begin)].lower() == begin.lower():
            return kind, step
    return None


def checkpoint_hint(source: str) -> str:
    """Return the next step for a safetensors file without a descriptor."""
    return f"It is a safetensors file, but not a pack; it may be a checkpoint. {PACK_IT.format(path=source)}"


def folder_hint(folder: Path) -> str:
    """Return the next step for a folder without a pack."""
    if os.path.isfile(folder / "adapter_config.json"):  # noqa: PTH113 - Path.is_file() raises where nobody may look
        return f"It contains a PEFT adapter. {PACK_IT.format(path=folder)}"
    if any(next(folder.glob(pattern), None) for pattern in ("model*.safetensors*", "pytorch_model*.bin*")):
        return f"It contains a checkpoint. {PACK_IT.format(path=folder)}"
    if os.path.isfile(folder / "serve.lock"):  # noqa: PTH113
        return "It is the folder of a registry. Serve it with lottapack serve, and name http://HOST/OWNER/NAME."
    if folder.name.startswith("models--") and os.path.isdir(folder / "snapshots"):  # noqa: PTH112
        repository = folder.name.removeprefix("models--").replace("--", "/")
        return f"It is a cache of the repository {repository}: name that, or a folder in {folder / 'snapshots'}."
    return "Name a pack, a .lotta.safetensors file, or a folder that contains one."
