"""Faults of files beside the model: files.md."""

from collections.abc import Callable, Iterator
from typing import Any

from .canonical import canonical
from .codings import as_stream, stream
from .invalid_form import fault
from .model import Model, tensor
from .pack import Tensor
from .small import Invalid, small
from .valid_files import ZEROS

NAME, CODED = "tokenizer.json", "vocab.txt"
Change = Callable[[dict[str, Any]], object]


def at(name: str, field: str = "") -> str:
    """The place of a file, or of one of its fields."""
    return f"files{canonical([name]).decode()}" + (f".{field}" if field else "")


def two() -> Model:
    """The small pack with a file as it is, and one with a coding."""
    model = small()
    model.beside(NAME, b"{}")
    model.beside(CODED, b"a b c", stream(b"a b c"))
    return model


def forms() -> Iterator[Invalid]:
    """Fields and their values."""
    coded = {"id": "planes-zlib", "codes": "0" * 64}
    changes: list[tuple[str, str, str, str, Change]] = [
        ("array", "field", "files", "an array", lambda it: it.update(files=[])),
        ("none", "field", "files", "no file in the field", lambda it: it.update(files={})),
        ("entry_string", "field", at(NAME), "a hash for an entry", lambda it: it["files"].update({NAME: "0" * 64})),
        ("unknown", "field", at(NAME), "a field unknown", lambda it: it["files"][NAME].update(mode=420)),
        ("no_size", "field", at(NAME), "no size", lambda it: it["files"][NAME].pop("size")),
        ("no_sha256", "field", at(NAME), "no hash", lambda it: it["files"][NAME].pop("sha256")),
        ("size_float", "field", at(NAME, "size"), "a size of 2.0", lambda it: it["files"][NAME].update(size=2.0)),
        ("size_negative", "field", at(NAME, "size"), "a size of -1", lambda it: it["files"][NAME].update(size=-1)),
        (
            "size_too_large",
            "field",
            at(CODED, "size"),
            "2**27 + 1 bytes",
            lambda it: it["files"][CODED].update(size=2**27 + 1),
        ),
        ("sha256_upper", "field", at(NAME, "sha256"), "capitals", lambda it: it["files"][NAME].update(sha256="A" * 64)),
        (
            "coding_string",
            "field",
            at(CODED, "coding"),
            "a coding that is a string",
            lambda it: it["files"][CODED].update(coding="planes-zlib"),
        ),
        (
            "coding_scales",
            "field",
            at(CODED, "coding"),
            "scales",
            lambda it: it["files"][CODED].update(coding={**coded, "scales": "0" * 64}),
        ),
        (
            "coding_codes",
            "field",
            at(CODED, "coding.codes"),
            "a short hash",
            lambda it: it["files"][CODED].update(coding={**coded, "codes": "0"}),
        ),
        (
            "coding_other",
            "id",
            at(CODED, "coding.id"),
            "a coding for numbers",
            lambda it: it["files"][CODED].update(coding={**coded, "id": "float16"}),
        ),
    ]
    for name, kind, where, why, change in changes:
        model = two()
        change(model.descriptor)
        yield fault(f"file_{name}", kind, where, why, model.file())
    model = small()
    for number in range(65):
        model.beside(f"additional_chat_templates/n{number}.jinja", b"")
    yield fault("files_too_many", "field", "files", "65 files", model.file())
    model = small()
    for name in ("dict.txt", "merges.txt", "vocab.txt"):
        model.beside(name, b"", stream(b""))
        model.descriptor["files"][name]["size"] = 2**27
    yield fault("files_too_large", "field", "files", "three files of 2**27 bytes", model.file())


def names() -> Iterator[Invalid]:
    """Names that lead elsewhere, mean something else, or are not in the list."""
    for word, name in {
        "empty": "",
        "parent": "../tokenizer.json",
        "absolute": "/tokenizer.json",
        "backslash": "..\\tokenizer.json",
        "dot": "./tokenizer.json",
        "capital": "Tokenizer.json",
        "space": "tokenizer.json ",
        "stream": "tokenizer.json:a",
        "config": "config.json",
        "index": "model.safetensors.index.json",
        "weights": "pytorch_model.bin",
        "code": "tokenization_own.py",
        "readme": "README.md",
        "folder": "other/tokenizer.json",
        "template_parent": "additional_chat_templates/../a.jinja",
        "template_deep": "additional_chat_templates/a/b.jinja",
        "template_empty": "additional_chat_templates/.jinja",
        "template_capital": "additional_chat_templates/A.jinja",
        "template_device": "additional_chat_templates/nul.jinja",
        "template_long": f"additional_chat_templates/{'n' * 65}.jinja",
        "template_newline": "additional_chat_templates/a.jinja\n",
    }.items():
        model = small()
        model.beside(name, b"{}")
        yield fault(f"file_{word}", "name", at(name), f"a file called {name[:60]!r}", model.file())


def disagreements() -> Iterator[Invalid]:
    """Tensors that are not those of the entries."""

    def wrong(name: str, kind: str, where: str, why: str, model: Model) -> Invalid:
        return Invalid(f"agreement_{kind}_{name}".replace("-", "_"), why, "agreement", kind, where, model.file())

    plain, codes = f"lottapack.files.{NAME}", f"lottapack.files.{CODED}.codes"
    for name, lost in (("file", plain), ("file_codes", codes)):
        model = two()
        del model.tensors[lost]
        yield wrong(name, "missing", lost, f"{lost} is not in the file", model)
    model = two()
    model.tensors["lottapack.files.merges.txt"] = tensor("uint8", 2)
    yield wrong("file", "unused", "lottapack.files.merges.txt", "a file that no entry names", model)
    model = two()
    model.tensors[f"lottapack.files.{CODED}"] = Tensor("uint8", [5], b"a b c")
    yield wrong("file_twice", "unused", f"lottapack.files.{CODED}", "a coded file, as it is too", model)
    model = two()
    model.stored(plain, model.tensors[plain])
    yield wrong("file", "two-roles", plain, "a file that is a parameter too", model)
    for name, where, made in (
        ("file_size", plain, Tensor("uint8", [3], b"{}\n")),
        ("file_dtype", plain, Tensor("int8", [2], b"{}")),
        ("file_shape", plain, Tensor("uint8", [1, 2], b"{}")),
        ("file_codes_dtype", codes, Tensor("int8", [16], bytes(16))),
        ("file_codes_shape", codes, Tensor("uint8", [4, 4], bytes(16))),
    ):
        model = two()
        model.tensors[where] = made
        yield wrong(name, "mismatch", where, f"the file holds {made.dtype} {made.shape}", model)
    model = small()
    model.beside(CODED, bytes(4096), as_stream(ZEROS))
    model.descriptor["files"][CODED]["size"] = 1032 * len(ZEROS) + 1
    yield wrong("file_impossible", "mismatch", codes, "more bytes than its codes can make", model)


def contents() -> Iterator[Invalid]:
    """Bytes that are not those that the descriptor records."""

    def wrong(name: str, kind: str, where: str, why: str, model: Model) -> Invalid:
        return Invalid(f"contents_{kind}_{name}", why, "contents", kind, where, model.file())

    plain, codes = f"lottapack.files.{NAME}", f"lottapack.files.{CODED}.codes"
    for name, where in (("file", plain), ("file_codes", codes)):
        model = two()
        held = model.tensors[where]
        model.tensors[where] = Tensor("uint8", held.shape, bytes([held.data[0] ^ 1]) + held.data[1:])
        yield wrong(name, "sha256", where, "one bit changed", model)
    model = two()
    model.descriptor["files"][CODED]["sha256"] = "0" * 64
    yield wrong("file_decoded", "sha256", at(CODED), "codes that decode to another file", model)
    for name, why, data in (
        ("file_larger", "a stream of more bytes than the file has", stream(b"a b c d").data),
        ("file_smaller", "a stream of fewer bytes", stream(b"a b").data),
        ("file_cut", "a stream that is cut off", stream(b"a b c").data[:-1]),
        ("file_after", "a byte after the stream", stream(b"a b c").data + b"\0"),
        ("file_no_stream", "no stream at all", bytes(16)),
        ("file_bomb", "a stream of 4,096 zeros for a file of five", ZEROS),
    ):
        model = small()
        model.beside(CODED, b"a b c", as_stream(data))
        yield wrong(name, "coding", codes, why, model)


def cases() -> Iterator[Invalid]:
    """All of them."""
    yield from forms()
    yield from names()
    yield from disagreements()
    yield from contents()
