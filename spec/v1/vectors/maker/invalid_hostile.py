"""Files that someone made to do harm: more faults of refusals.md, sections 1 to 3 and 5."""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from . import invalid_container, invalid_form
from .canonical import canonical
from .invalid_container import changed, parts, put
from .invalid_form import at
from .model import tensor
from .pack import assemble
from .small import Invalid, small

Header = dict[str, Any]


def other_files() -> Iterator[Invalid]:
    """Files of other kinds under a pack's name, and lengths that no file has."""
    header, data = parts()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps({"weight": [1.0]}, protocol=2))
    for name, why, made in (
        ("pickle", "a pickle", pickle.dumps({"weight": [1.0] * 8}, protocol=2)),
        ("zip", "a zip archive, as torch.save writes", archive.getvalue()),
        ("sign_bit", "a header of 2**63 bytes", assemble(header, data, length=2**63)),
        ("largest", "a header of 2**64 - 1 bytes", assemble(header, data, length=2**64 - 1)),
        ("wraps_to_all", "a header that with its prefix ends at the file's end, modulo 2**64", wrapping()),
    ):
        yield invalid_container.fault(name, "length", "length", why, made)


def wrapping() -> bytes:
    """A length to which the file's size is added, modulo 2**64, by a reader that seeks from the end."""
    header, data = parts()
    whole = assemble(header, data)
    return assemble(header, data, length=2**64 - len(whole) + len(whole) % 8)


def texts() -> Iterator[Invalid]:
    """The header's text."""
    header, data = parts()
    text = canonical(header)

    def replaced(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1, old
        return assemble(text.replace(old, new), data)

    shape, bias = b'"0.bias":{"data_offsets":[4,16],"dtype":"F32","shape":[3]}', b'"0.bias":{"data_offsets":[4,16],%b}'
    for name, why, made in (
        ("nul_first", "a byte 0 before the first brace", assemble(b"\0" + text, data)),
        ("very_deep", "nested 20,000 deep", replaced(shape, bias % (b'"x":' + b"[" * 20_000 + b"]" * 20_000))),
        ("very_deep_open", "20,000 brackets that nobody closes", assemble(b'{"a":' + b"[" * 20_000, data)),
        ("long_integer", "an integer of 5,000 digits", replaced(shape, bias % (b'"x":' + b"9" * 5000))),
        ("minus_infinity", "-Infinity", replaced(shape, bias % b'"x":-Infinity')),
        ("two_values", "two objects", assemble(text + text, data)),
        ("overlong_utf8", "an overlong form of a slash", replaced(b'"F32","shape":[3]', b'"F\xc0\xaf","shape":[3]')),
        ("surrogate_utf8", "a surrogate in UTF-8", replaced(b'"F32","shape":[3]', b'"F\xed\xa0\x80","shape":[3]')),
    ):
        yield invalid_container.fault(name, "json", "header", why, made)
    digest = b'"lottapack.sha256":'
    for name, why, made in (
        ("inside_metadata", "a key twice in __metadata__", replaced(digest, digest + b'"","lottapack.sha256":')),
        (
            "inside_metadata_other",
            "the descriptor twice in __metadata__",
            replaced(b'"lottapack":', b'"lottapack":"{}","lottapack":'),
        ),
        ("escaped", "a tensor twice, once with an escape in its name", replaced(shape, shape + b',"0.\\u0062ias":{}')),
        (
            "other_range",
            "a tensor twice, with two ranges",
            replaced(shape, shape.replace(b"4,16", b"16,28") + b"," + shape),
        ),
        ("empty_key", "an empty key twice", replaced(shape, shape[:-1] + b',"":0,"":0}')),
    ):
        yield invalid_container.fault(f"{name}_twice", "canonical", "header", why, made)


def entries() -> Iterator[Invalid]:
    """What the header says of tensors."""
    yield invalid_container.fault(
        "null",
        "metadata",
        "header.__metadata__",
        "__metadata__ that is null",
        changed(lambda h: h.update(__metadata__=None)),
    )
    faults: list[tuple[str, str, Callable[[Header], object]]] = [
        ("null", "null for an entry", lambda h: h.update({"0.bias": None})),
        ("number_type", "an element type that is a number", put("0.bias", "dtype", 5)),
        ("null_type", "an element type that is null", put("0.bias", "dtype", None)),
        ("four_bits", "an element type of half a byte", put("0.bias", "dtype", "F4")),
    ]
    for name, why, change in faults:
        yield invalid_container.fault(name, "entry", "header.0.bias", why, changed(change))
    shapes: list[tuple[str, str, Any]] = [
        ("ten_thousand", "10,000 dimensions", [3] + [1] * 9_999),
        ("null", "a shape that is null", None),
        ("nested", "a shape in a shape", [[3]]),
        ("text", "a dimension that is a string", ["3"]),
    ]
    for name, why, shape in shapes:
        made = changed(put("0.bias", "shape", shape))
        yield invalid_container.fault(name, "shape", "header.0.bias", why, made)
    empty = [
        ("wraps_to_zero", "2**64 elements, which is 0 modulo 2**64", [2**32, 2**32]),
    ]
    for name, why, shape in empty:
        made = changed(put("empty", "shape", shape), invalid_container.with_empty_tensor())
        yield invalid_container.fault(name, "shape", "header.empty", why, made)
    offsets: list[tuple[str, str, Any]] = [
        ("null", "offsets that are null", None),
        ("beyond", "offsets up to 2**53 - 1", [2**53 - 13, 2**53 - 1]),
        ("boolean", "an offset that is a boolean", [True, 13]),
        ("objects", "offsets that are an object", {"0": 4, "1": 16}),
    ]
    for name, why, pair in offsets:
        made = changed(put("0.bias", "data_offsets", pair))
        yield invalid_container.fault(name, "offsets", "header.0.bias", why, made)


def ranges() -> Iterator[Invalid]:
    """Ten tensors on one range: a file whose tensors are more than it holds."""
    for filled in (False, True):
        model = small()
        for number in range(9):
            model.stored(f"9.{number}", tensor("float32", 3))
        header, data = parts(model)
        first = header["9.0"]["data_offsets"]
        for number in range(9):
            header[f"9.{number}"]["data_offsets"] = first
        kept = data if filled else data[: first[1]]
        where, why = ("header.9.1", ", and bytes of none") if filled else ("data", "")
        name = "nine_on_one_range_filled" if filled else "nine_on_one_range"
        yield invalid_container.fault(name, "offsets", where, f"nine tensors on one range{why}", assemble(header, kept))


def names() -> Iterator[Invalid]:
    """Names, of parameters that have a tensor in the file, and of a tensor alone."""
    for name, why, bad in (
        ("stored_empty", "an empty name", ""),
        ("stored_nul", "a name with U+0000", "a\0"),
        ("stored_line_feed", "a name with a line feed", "a\nb"),
        ("stored_path", "a name that is a path out of the folder", "../../a"),
        ("stored_absolute", "a name that is an absolute path", "/a"),
        ("stored_drive", "a name that is a path of Windows", "C:\\a"),
        ("stored_escape", "a name that would steer a terminal", "a\x1b[2J"),
    ):
        model = small()
        model.stored(bad, tensor("float32", 2))
        yield invalid_form.fault(name, "name", at(bad), why, model.file())
    for name, bad in (("empty_name", ""), ("path", "../../a"), ("line_feed", "a\nb"), ("long_name", "n" * 5000)):
        model = small()
        model.tensors[bad] = tensor("float32", 2)
        yield Invalid(
            f"agreement_unused_{name}",
            f"a tensor called {bad[:20]!r} that nothing names",
            "agreement",
            "unused",
            bad,
            model.file(),
        )


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (other_files, texts, entries, ranges, names):
        yield from group()
