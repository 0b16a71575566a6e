"""Files beside the model: gathered from folders and tokenizers, stored in packs, and written out (spec: files)."""

import hashlib
import json
import reprlib
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lottapack.arch.noted import noted, notes
from lottapack.codecs import PlanesZlib
from lottapack.errors import ArchitectureError, CheckpointError, LeftOutWarning, OutputError, UnsupportedError
from lottapack.files.links import require_own_file
from lottapack.files.output import refuse_over
from lottapack.files.paths import is_directory
from lottapack.files.staging import Opener, staged_folder
from lottapack.format.container import PACK_END, SIGNATURE_END
from lottapack.format.descriptor import Architecture, Coding, FileRecord
from lottapack.format.files import (
    ADAPTER,
    GENERATION,
    GRAPH,
    MAX_SIZE,
    TEMPLATES,
    content,
    decoded,
    files_of,
    in_pack,
    is_name,
    limit_fault,
)
from lottapack.format.packfile import PackFile

if TYPE_CHECKING:
    from torch import nn

Files = bool | str | PathLike[str] | Any
"""True or False: whether to store files; a folder that contains them; or tokenizers and processors (one or several)."""

TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_SETTINGS: Final = {
    "clean_up_tokenization_spaces": False,
    "model_input_names": None,
    "padding_side": "right",
    "split_special_tokens": False,
    "truncation_side": "right",
}
"""Settings of tokenizers that users change after making one, with the defaults of classes that do not say any."""

_MODULES: Final = "modules.json"
"""Lists the modules of a model of sentence-transformers."""

_OF_THE_MODEL = (".safetensors", ".safetensors.index.json", ".bin.index.json", PACK_END, PACK_END + SIGNATURE_END)
_ALSO_OF_THE_MODEL = ("config.json", "pytorch_model.bin", "adapter_model.bin", ADAPTER)


@dataclass(frozen=True)
class Embedded:
    """Files for a pack, by name, and the names of the folder's files that the pack does not store."""

    held: Mapping[str, bytes] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each file in bytes, by name."""
        return {name: len(data) for name, data in sorted(self.held.items())}


def gathered(
    files: Files,
    source: object,
    part: "nn.Module | None",
    architecture: Architecture,
    known: Mapping[str, bytes] | None = None,
) -> Embedded:
    """Return the files that belong to the packed model.

    Args:
        files: the argument of pack().
        source: the model, state_dict or path that is packed.
        part: the packed module of a live model.
        architecture: the pack's.
        known: files that the source already contains.

    Raises:
        CheckpointError: a folder that cannot be read, a file that is too large, a generation_config of another model.
    """
    if files is False:
        return Embedded()
    folder = _folder_of(source)
    own = _of_folder(folder) if folder is not None and (files is True or files is None) else Embedded()
    first = carried(part) if part is not None else known or {}
    held = {**first, **own.held}
    if folder is not None and GENERATION not in held and (folder / GENERATION).is_file():
        held[GENERATION] = _read(folder / GENERATION)
    if files is not True and files is not None:
        given = _given(files)
        own, held = given, {**{name: held[name] for name in (ADAPTER, GENERATION) if name in held}, **given.held}
    said = _generation(held.pop(GENERATION, None), part, architecture)
    if said is not None:
        held[GENERATION] = said
    if folder is not None:
        _warn_of_parts(folder, own.left)
    if fault := limit_fault({name: len(data) for name, data in held.items()}):
        raise CheckpointError(fault, hint="Leave the files out with `files=False`.")
    return Embedded(held, own.left)


def _folder_of(source: object) -> Path | None:
    """Return the folder of a checkpoint: itself, or that of weights under a library's own name."""
    if not isinstance(source, str | PathLike):
        return None
    path = Path(source)
    if is_directory(path):
        return path
    return path.parent if path.name.startswith(("model.safetensors", "pytorch_model.bin")) else None


def _of_folder(folder: Path) -> Embedded:
    """Return the files of a folder that a pack stores, and the names of the others."""
    held: dict[str, bytes] = {}
    left = []
    inner = folder / TEMPLATES
    for path in sorted([*folder.iterdir(), *(inner.iterdir() if inner.is_dir() else ())]):
        name = path.relative_to(folder).as_posix()
        if is_name(name) and name not in (ADAPTER, GRAPH):
            require_own_file(path, folder)
            held[name] = _read(path)
        elif path.is_file() and not name.startswith(".") and not _is_of_the_model(name):
            left.append(name)
        elif path.is_dir() and _is_a_part(path):
            left += sorted(f"{name}/{inner.name}" for inner in path.iterdir() if inner.is_file())
    return Embedded(held, tuple(left))


def _is_a_part(folder: Path) -> bool:
    """Return whether a folder belongs to the model around it: a second tokenizer, or a layer of sentence-transformers.

    Others hold other checkpoints, or what a trainer wrote.
    """
    if (folder.parent / _MODULES).is_file() and folder.name[:1].isdigit():
        return True
    return folder.name.endswith("tokenizer") and (folder / TOKENIZER_CONFIG).is_file()


def _warn_of_parts(folder: Path, left: Iterable[str]) -> None:
    """Warn of what a checkpoint's folder needs beside the files that a pack can hold."""
    tokenizers = sorted({name.partition("/")[0] for name in left if name.endswith(f"tokenizer/{TOKENIZER_CONFIG}")})
    if tokenizers:
        warnings.warn(
            f"the pack does not hold {', '.join(tokenizers)} of {folder}: a pack has room for one tokenizer. The "
            "processor of this model does not open without the others; share them beside the pack",
            LeftOutWarning,
            stacklevel=4,
        )
    if _MODULES in left:
        warnings.warn(
            f"{folder} is a model of sentence-transformers: the pack holds its first module alone, and not pooling, "
            f"normalization or prompts, which {_MODULES} and the files that it names describe. Share these beside the "
            "pack",
            LeftOutWarning,
            stacklevel=4,
        )


def _is_of_the_model(name: str) -> bool:
    return name in _ALSO_OF_THE_MODEL or name.endswith(_OF_THE_MODEL)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as fault:
        raise CheckpointError(
            f"cannot read {path}: {fault.strerror or fault}",
            hint="Make it readable, or leave the files out with `files=False`.",
        ) from fault
    return data


def _given(files: Files) -> Embedded:
    if isinstance(files, str | PathLike):
        folder = Path(files)
        if not is_directory(folder):
            raise CheckpointError(
                f"files={str(folder)!r} is not a folder", hint="Name the folder that holds the tokenizer's files."
            )
        found = _of_folder(folder)
        if not found.held:
            raise CheckpointError(
                f"{folder} does not contain a file that a pack can store",
                hint="Name a folder with a tokenizer or processor of transformers; spec/v1/files.md lists the names.",
            )
        return found
    held: dict[str, bytes] = {}
    left: list[str] = []
    for one in files if isinstance(files, list | tuple) else [files]:
        saved = _saved(one)
        for name in saved.held.keys() & held.keys():
            if _but_processor(saved.held[name]) != _but_processor(held[name]):
                raise CheckpointError(
                    f"files: two of the objects save a {name}, and these differ. A pack holds one",
                    hint="Pass one tokenizer and one processor. Share others beside the pack.",
                )
        held |= saved.held
        left += saved.left
    return Embedded(held, tuple(left))


def _saved(one: Any) -> Embedded:
    """Return the files that a tokenizer or processor saves. Raises CheckpointError if a pack cannot hold each of them.

    Its own code may be left out: transformers asks before it runs any.
    """
    if isinstance(one, type) or not hasattr(one, "save_pretrained") or hasattr(one, "state_dict"):
        raise CheckpointError(
            f"files={reprlib.repr(one)} is not a folder, a tokenizer or a processor",
            hint="Pass an object with save_pretrained(), such as a tokenizer, or a folder, True or False.",
        )
    kind = type(one).__name__
    with tempfile.TemporaryDirectory() as scratch:
        one.save_pretrained(scratch)
        held = dict(_of_folder(Path(scratch)).held)
        saved = (path.relative_to(scratch).as_posix() for path in sorted(Path(scratch).rglob("*")) if path.is_file())
        left = tuple(name for name in saved if name not in held)
    lost = [name for name in left if not name.endswith(".py")]
    if lost:
        parts = (
            "Pass the parts of it that a pack can hold, such as `files=processor.tokenizer`, and share the rest beside "
            "the pack."
        )
        names = "Name its chat templates with lower-case letters, digits, - and _."
        raise CheckpointError(
            f"files: the {kind} saves {', '.join(lost[:5])}, which a pack cannot hold",
            hint=names if lost[0].startswith(TEMPLATES) else parts,
        )
    if not held.keys() - {GENERATION}:
        raise CheckpointError(
            f"files: the {kind} does not save a file that belongs to a tokenizer or processor",
            hint="Pass a tokenizer or a processor. Settings for generating text belong to the model: "
            "model.generation_config = settings.",
        )
    if TOKENIZER_CONFIG in held:
        held[TOKENIZER_CONFIG] = _with_settings(held[TOKENIZER_CONFIG], one)
    return Embedded(held, left)


def _with_settings(config: bytes, saver: Any) -> bytes:
    """Return a tokenizer's configuration with what was set on the tokenizer, or on that of a processor, since.

    transformers saves only those of _SETTINGS that the constructor was given.
    """
    said = json.loads(config)
    tokenizer = saver if hasattr(saver, "padding_side") else getattr(saver, "tokenizer", saver)
    for key, default in _SETTINGS.items():
        now = getattr(tokenizer, key, None)
        if key not in said and now is not None and now != getattr(type(tokenizer), key, default):
            said[key] = now
            config = json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    return config


def _but_processor(config: bytes) -> Any:
    """Return what a file says, but for the note by which a processor's tokenizer names the processor."""
    try:
        said = json.loads(config)
    except ValueError:
        return config
    return {key: one for key, one in said.items() if key != "processor_class"} if isinstance(said, dict) else said


def _generation(said: bytes | None, part: "nn.Module | None", architecture: Architecture) -> bytes | None:
    """Return the generation_config of a pack: a live model's own takes precedence over a file."""
    if architecture.family != "transformers":
        return None
    from lottapack.arch import generation

    try:
        if part is not None:
            return generation.of_model(part, architecture)
        return None if said is None else generation.of_json(said, architecture)
    except UnsupportedError:
        return said
    except ArchitectureError as fault:
        raise CheckpointError(fault.message, hint=fault.hint) from fault


def encoded(data: bytes) -> tuple[FileRecord, bytes]:
    """Return the entry of a file, and its bytes in the pack, compressed if that is smaller."""
    sha256 = hashlib.sha256(data).hexdigest()
    codec = PlanesZlib()
    packed = bytes(codec.encode(data, (len(data),), "uint8", 0)["codes"]) if data else data
    if len(packed) >= len(data):
        return FileRecord(size=len(data), sha256=sha256), data
    coding = Coding(id=codec.id, codes=hashlib.sha256(packed).hexdigest())
    return FileRecord(size=len(data), sha256=sha256, coding=coding), packed


def carry(model: "nn.Module", pack: PackFile) -> None:
    """Attach the pack's files and generation_config to a loaded model. Raises IntegrityError, ArchitectureError."""
    held = {}
    for name, record in files_of(pack.descriptor).items():
        held[name] = record, in_pack(pack, name)  # kept in the pack's form, which is smaller
        plain = decoded(name, *held[name], str(pack.path))
        if name == GENERATION and pack.descriptor.architecture.family == "transformers":
            from lottapack.arch import generation

            generation.put(model, plain, pack.descriptor.architecture)
    if held:
        notes(model).files = held


def refuse_others(pack: PackFile, folder: Path, leave: Iterable[str] = ()) -> None:
    """Raise OutputError if writing a pack's files into a folder would replace others. Files in ``leave`` are exempt."""
    for name in files_of(pack.descriptor).keys() - set(leave) - {GENERATION}:
        path = folder / name
        if path.exists() and not (path.is_file() and path.read_bytes() == content(pack, name)):
            raise OutputError(
                f"{path} is there already, and differs from the pack's",
                hint="Remove it, or choose another folder. Nothing was changed.",
            )


def write(pack: PackFile, opened: Opener, leave: Iterable[str] = ()) -> None:
    """Write a pack's files among the other files of a folder. Leaves out those in ``leave``. Raises IntegrityError."""
    for name in files_of(pack.descriptor):
        if name not in leave:
            with opened(name) as file:
                file.write(content(pack, name))


def carried(model: "nn.Module") -> dict[str, bytes]:
    """Return the files attached to a model, by name."""
    found = noted(model).files
    return {name: decoded(name, record, data, name) for name, (record, data) in found.items()}


def write_files(pack: PackFile, folder: Path) -> Path:
    """Write a pack's files into a folder without replacing others; return the folder."""
    if not files_of(pack.descriptor).keys() - {ADAPTER}:
        raise UnsupportedError(
            f"{pack.path} does not contain files besides the model",
            hint="Pack the checkpoint's folder, or pass the tokenizer's folder as `files`.",
        )
    refuse_over(folder, pack.path)
    refuse_others(pack, folder, leave=(ADAPTER,))  # ADAPTER would turn the folder into an adapter
    with staged_folder(folder) as opened:
        write(pack, opened, leave=(ADAPTER,))
    return folder
