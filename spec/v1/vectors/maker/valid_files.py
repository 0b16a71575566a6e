"""Packs that are valid: files beside the model."""

from .codings import as_stream, stream
from .model import Model
from .shown import shows
from .valid_basics import minimal

WORDS = b'{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}}}\n'


@shows("files as they are and with a coding, an empty one, and a template in a folder; fields that may be ignored")
def files() -> Model:
    model = minimal()
    model.beside("tokenizer.json", WORDS, stream(WORDS))
    model.beside("tokenizer_config.json", b"{}")
    model.beside("merges.txt", b"")
    model.beside("model.onnx", b"\x08\x0a")
    model.beside("vocab.txt", b"", stream(b""))
    model.beside("additional_chat_templates/tool_use-2.jinja", b"{{ messages }}")
    model.descriptor["files"]["merges.txt"]["x-note"] = [1]
    return model


@shows("64 files, the longest name among them, and one whose name ends as a coding does")
def most_files() -> Model:
    model = minimal()
    model.beside("bpe.codes", b"a b", stream(b"a b"))
    for number in range(63):
        model.beside(f"additional_chat_templates/{'n' * 64 if number == 0 else f'n{number}'}.jinja", b"")
    return model


# 4096 zeros, as a compressor writes them: one long match after another.
ZEROS = bytes.fromhex("78daedc1010d000000c2a0f74f6d0f0714000000f06e10000001")


@shows("a file that is much larger than its codes")
def grown_file() -> Model:
    model = minimal()
    model.beside("vocab.txt", bytes(4096), as_stream(ZEROS))
    return model
