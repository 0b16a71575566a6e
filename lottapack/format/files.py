"""Files that a pack holds beside the model: their names, limits and entries (spec: files)."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from lottapack.codecs import CODECS, PlanesZlib
from lottapack.codecs.faults import CodingFaultError
from lottapack.errors import IntegrityError, Problem
from lottapack.format.collect import HEX64, Collector, quote
from lottapack.format.descriptor import Coding, Descriptor, FileRecord
from lottapack.format.expected import expected_file
from lottapack.strict_json.text import JsonText

if TYPE_CHECKING:
    from lottapack.format.packfile import PackFile

TOKENIZER = (
    "added_tokens.json",
    "bpe.codes",
    "byte_maps.json",
    "dict.txt",
    "emoji.json",
    "entity_vocab.json",
    "merges.txt",
    "normalizer.json",
    "prophetnet.tokenizer",
    "qwen.tiktoken",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "target.spm",
    "target_vocab.json",
    "tekken.json",
    "tiktoken.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab-src.json",
    "vocab-tgt.json",
    "vocab.json",
    "vocab.txt",
    "word_pronunciation.json",
    "word_shape.json",
)
GENERATION = "generation_config.json"
ADAPTER = "adapter_config.json"
GRAPH = "model.onnx"
NAMES = frozenset(
    (
        *TOKENIZER,
        "chat_template.jinja",
        "chat_template.json",
        "audio_tokenizer_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "video_preprocessor_config.json",
        GENERATION,
        ADAPTER,
        GRAPH,
    )
)
"""Every name that a file may have, except those of TEMPLATE."""

TEMPLATES = "additional_chat_templates"
_TEMPLATE = re.compile(rf"{TEMPLATES}/(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\.)[a-z0-9][a-z0-9_-]{{0,63}}\.jinja")
MAX_FILES = 64
MAX_SIZE = 1 << 27
MAX_SIZES = 1 << 28


def is_name(name: str) -> bool:
    """Return whether a pack can hold a file of this name."""
    return name in NAMES or _TEMPLATE.fullmatch(name) is not None


def read_files(out: Collector, text: JsonText) -> dict[str, FileRecord] | None:
    """Return the entries by name, or None if one cannot be read."""
    if not text.is_object:
        out.add("field", "files", f"should be an object, not {text.kind}")
        return None
    count = sum(1 for _ in text.members())
    if not 1 <= count <= MAX_FILES:
        out.add("field", "files", f"names {count:,} files; it should name 1 to {MAX_FILES}")
        return None
    records: dict[str, FileRecord] = {}
    for name, item in text.members():
        place = f"files[{quote(name)}]"
        if not is_name(name):
            out.add("name", place, "a pack cannot hold a file of this name")
        fields = out.entry(item, place)
        record = out.record(fields, FileRecord, place) if fields is not None else None
        if record is not None:
            records[name] = record
            _check(out, record, place)
    if sum(max(record.size, 0) for record in records.values()) > MAX_SIZES:
        out.add("field", "files", f"has files of more than {MAX_SIZES:,} bytes in all")
    return records if len(records) == count else None


def _check(out: Collector, record: FileRecord, place: str) -> None:
    if not 0 <= record.size <= MAX_SIZE:
        out.add("field", f"{place}.size", f"{record.size:,} bytes; a file should have 0 to {MAX_SIZE:,}")
    out.hexadecimal(record.sha256, HEX64, f"{place}.sha256")
    if record.coding is not msgspec.UNSET:
        out.known(record.coding.id, (PlanesZlib.id,), f"{place}.coding.id", "coding of a file")
        for field in record.coding.given ^ {"codes"}:
            what = "does not have" if field in record.coding.given else "has"
            out.add("field", f"{place}.coding", f"{PlanesZlib.id} {what} {field}")
        if record.coding.codes is not msgspec.UNSET:
            out.hexadecimal(record.coding.codes, HEX64, f"{place}.coding.codes")


def content(pack: "PackFile", name: str) -> bytes:
    """Return the checked bytes of a file in a pack. Raises IntegrityError; KeyError for an unknown name."""
    record = files_of(pack.descriptor)[name]
    return decoded(name, record, in_pack(pack, name), str(pack.path))


def in_pack(pack: "PackFile", name: str) -> bytes:
    """Return the checked bytes that a pack holds for a file, still coded if it has a coding. Raises IntegrityError."""
    expected = expected_file(name, files_of(pack.descriptor)[name])
    return bytes(pack.read_bytes(pack.tensors[expected.name]))


def decoded(name: str, record: FileRecord, data: bytes, source: str) -> bytes:
    """Decode what in_pack() returned. Raises IntegrityError, naming ``source``."""
    if not isinstance(record.coding, Coding):
        return data
    expected = expected_file(name, record)
    made = bytearray(record.size)
    try:
        CODECS[record.coding.id].decode({"codes": data}, (record.size,), "uint8", memoryview(made))
    except CodingFaultError as fault:
        problem = Problem("coding", expected.name, f"{fault.message} ({record.coding.id})")
        raise IntegrityError(
            source, [problem], hint="A faulty program wrote this pack. Get another copy from its author."
        ) from fault
    digest = hashlib.sha256(made).hexdigest()
    if digest != record.sha256:
        problem = Problem(
            "sha256", expected.part, f"decodes to bytes with the SHA-256 {digest}, recorded is {record.sha256}"
        )
        raise IntegrityError(
            source, [problem], hint="A faulty program wrote this pack. Get another copy from its author."
        )
    return bytes(made)


def files_of(descriptor: Descriptor) -> dict[str, FileRecord]:
    """Return the files of a pack by name."""
    return descriptor.files or {}


def limit_fault(sizes: Mapping[str, int]) -> str | None:
    """Return what is wrong with files of these sizes, or None."""
    large: Iterable[str] = (name for name, size in sizes.items() if size > MAX_SIZE)
    if (name := next(iter(large), None)) is not None:
        return f"{name} has {sizes[name]:,} bytes, but a pack holds files of at most {MAX_SIZE:,}"
    if len(sizes) > MAX_FILES:
        return f"{len(sizes)} files, but a pack holds at most {MAX_FILES}"
    if sum(sizes.values()) > MAX_SIZES:
        return f"files of {sum(sizes.values()):,} bytes in all, but a pack holds at most {MAX_SIZES:,}"
    return None
