"""Faults of the container: refusals.md, section 1."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from .canonical import canonical
from .model import Model, tensor
from .pack import assemble, in_order, layout, metadata
from .small import Invalid, small

Header = dict[str, Any]
DEEP = b"[" * 65 + b"]" * 65


def parts(model: Model | None = None) -> tuple[Header, bytes]:
    """The header and the data of a sound pack."""
    model = model or small()
    entries, data = layout(model.tensors)
    return {**entries, "__metadata__": metadata(canonical(model.descriptor))}, data


def with_empty_tensor() -> Model:
    """A pack that holds a tensor without elements, whose shape can be changed without moving the data."""
    model = small()
    model.stored("empty", tensor("float32", 0))
    return model


def fault(name: str, kind: str, where: str, why: str, data: bytes) -> Invalid:
    """A fault of the container."""
    return Invalid(f"container_{kind}_{name}", why, "container", kind, where, data)


def lengths() -> Iterator[Invalid]:
    """The eight bytes at the start."""
    header, data = parts()
    sound = assemble(header, data)
    size = int.from_bytes(sound[:8], "little")
    yield fault("no_file", "length", "length", "an empty file", b"")
    yield fault("seven_bytes", "length", "length", "seven bytes", sound[:7])
    yield fault("zero", "length", "length", "a header length of 0", assemble(header, data, length=0))
    text = canonical(header)
    four = text + b" " * ((4 - len(text)) % 8)
    half = len(four).to_bytes(8, "little") + four + data
    yield fault("multiple_of_4", "length", "length", "a header length that 4 divides and 8 does not", half)
    unaligned = text + b" " * ((1 - len(text)) % 8)
    odd = len(unaligned).to_bytes(8, "little") + unaligned + data
    yield fault("not_multiple_of_8", "length", "length", "a header length that is no multiple of 8", odd)
    yield fault(
        "beyond_end", "length", "length", "a header that ends beyond the file", assemble(header, b"", length=size + 8)
    )
    yield fault(
        "over_cap", "length", "length", "a header over 100,000,000 bytes", assemble(header, data, length=100_000_008)
    )
    yield fault("huge", "length", "length", "a header of 2**64 - 8 bytes", assemble(header, data, length=2**64 - 8))


def descriptor_of_bytes(words: bytes) -> bytes:
    """A pack whose descriptor has these bytes in a text, and the digest of that."""
    model = small()
    model.descriptor["provenance"] = {"tool": "~"}
    header, data = parts(model)
    digest = hashlib.sha256(canonical(model.descriptor).replace(b"~", words)).hexdigest()
    header["__metadata__"]["lottapack.sha256"] = digest
    return assemble(canonical(header).replace(b"~", words), data)


def texts() -> Iterator[Invalid]:
    """The header's text."""
    header, data = parts()
    text = canonical(header)

    def replaced(old: bytes, new: bytes) -> bytes:
        assert text.count(old) == 1, old
        return assemble(text.replace(old, new), data)

    shape = b'"0.bias":{"data_offsets":[4,16],"dtype":"F32","shape":[3]}'
    bias = b'"0.bias":{"data_offsets":[4,16],"dtype":"F32","shape":[%b]}'
    json = [
        ("not_utf8", "bytes that are no UTF-8", replaced(b'"F32","shape":[3]', b'"F\xff2","shape":[3]')),
        ("not_utf8_name", "a tensor's name that is no UTF-8", replaced(b'"0.bias":{', b'"0.b\xffas":{')),
        ("surrogate_name", "half a surrogate pair in three bytes", replaced(b'"0.bias":{', b'"0.b\xed\xa0\x80as":{')),
        ("not_utf8_descriptor", "a descriptor that is no UTF-8, with its digest", descriptor_of_bytes(b"\xff")),
        ("not_json", "no JSON: a comma too many", assemble(text[:-1] + b",}", data)),
        ("cut_off", "no JSON: the last brace is missing", assemble(text[:-1], data)),
        ("too_deep", "nested over 64 deep", replaced(shape, bias % DEEP)),
        ("nan", "NaN", replaced(shape, bias % b"NaN")),
        ("infinity", "a number beyond binary64", replaced(shape, bias % b"1e999")),
        ("integer_range", "an integer of 2**53", replaced(shape, bias % b"9007199254740992")),
        ("integer_64", "an integer of 2**64", replaced(shape, bias % b"18446744073709551616")),
        ("negative_range", "an integer of -2**53", replaced(shape, bias % b"-9007199254740992")),
        ("lone_surrogate", "half a surrogate pair", replaced(b'"0.bias":', b'"\\ud83c":')),
        ("byte_order_mark", "a byte order mark", assemble(b"\xef\xbb\xbf" + text, data)),
    ]
    for name, why, made in json:
        yield fault(name, "json", "header", why, made)
    duplicate = [
        ("tensor", "a tensor twice", replaced(shape, shape + b"," + shape)),
        ("deep", "a key twice in a tensor's entry", replaced(shape, shape[:-1] + b',"shape":[3]}')),
        ("metadata", "__metadata__ twice", replaced(b'"__metadata__":', b'"__metadata__":{},"__metadata__":')),
    ]
    for name, why, made in duplicate:
        yield fault(f"{name}_twice", "canonical", "header", why, made)
    unsorted = b"{" + text[text.index(b',"0.bias"') + 1 : text.index(b',"0.lora_A"')] + b"," + text[1:]
    unsorted = unsorted.replace(b"," + shape, b"", 1)
    padded = text + b" " * (-len(text) % 8)
    canonical_faults = [
        ("space", "a space between tokens", replaced(b'"0.bias":', b'"0.bias": ')),
        ("leading_space", "spaces before the first brace", assemble(b" " * 8 + text, data)),
        ("key_order", "keys that are not sorted", assemble(unsorted, data)),
        ("escape", "an escape that need not be", replaced(b'"0.bias":', b'"0.\\u0062ias":')),
        ("minus_zero", "an integer -0", replaced(b'"data_offsets":[0,4]', b'"data_offsets":[-0,4]')),
        ("more_padding", "eight spaces too many", assemble(padded + b" " * 8, data)),
        ("other_padding", "padding with line feeds", assemble(text + b"\n" * (-len(text) % 8 or 8), data)),
    ]
    for name, why, made in canonical_faults:
        yield fault(name, "canonical", "header", why, made)


def orders() -> Iterator[Invalid]:
    """The order of the tensors."""
    model = small()
    order = in_order(model.tensors)
    swapped = [order[1], order[0], *order[2:]]
    entries, data = layout(model.tensors, swapped)
    header = {**entries, "__metadata__": metadata(canonical(model.descriptor))}
    why = "tensors of one element size that are not sorted by name"
    yield fault("name_order", "canonical", f"header.{order[0]}", why, assemble(header, data))
    model = small()
    model.stored("0.bias", tensor("bfloat16", 3), "bias")
    entries, data = layout(model.tensors, sorted(model.tensors))
    header = {**entries, "__metadata__": metadata(canonical(model.descriptor))}
    why = "tensors sorted by name, whatever their element size"
    yield fault("size_order", "canonical", "header.0.lora_A", why, assemble(header, data))
    model = with_empty_tensor()
    first = [name for name in in_order(model.tensors) if name != "empty"]
    entries, data = layout(model.tensors, ["empty", *first])
    header = {**entries, "__metadata__": metadata(canonical(model.descriptor))}
    why = "a tensor without elements before all others, without a gap"
    yield fault("empty_order", "canonical", "header.empty", why, assemble(header, data))


def changed(change: Callable[[Header], object], model: Model | None = None, more: bytes = b"") -> bytes:
    """A pack whose header is changed."""
    header, data = parts(model)
    change(header)
    return assemble(header, data + more)


def put(tensor_name: str, field: str, value: Any) -> Callable[[Header], object]:
    """A change of one field of a tensor's entry."""
    return lambda header: header[tensor_name].update({field: value})


def entries() -> Iterator[Invalid]:
    """What the header says."""
    __, data = parts()
    yield fault("array", "metadata", "header", "a header that is an array", assemble(b"[]", data))
    yield fault("empty", "metadata", "header.__metadata__", "a header without a key", assemble(b"{}", b""))
    marks: list[tuple[str, str, Callable[[Header], object]]] = [
        ("missing", "no __metadata__", lambda h: h.pop("__metadata__")),
        ("other_name", "another key of that length", lambda h: h.update(__metadatb__=h.pop("__metadata__"))),
        ("no_object", "__metadata__ that is no object", lambda h: h.update(__metadata__=[])),
        ("no_descriptor", "no descriptor", lambda h: h["__metadata__"].pop("lottapack")),
        ("no_digest", "no digest", lambda h: h["__metadata__"].pop("lottapack.sha256")),
        ("other_key", "another key", lambda h: h["__metadata__"].update(format="pt")),
        ("no_string", "a descriptor that is no string", lambda h: h["__metadata__"].update(lottapack={})),
    ]
    for name, why, change in marks:
        yield fault(name, "metadata", "header.__metadata__", why, changed(change))
    entry_faults: list[tuple[str, str, Callable[[Header], object]]] = [
        ("no_object", "an entry that is no object", lambda h: h.update({"0.bias": []})),
        ("other_field", "a field that is unknown", put("0.bias", "strides", [1])),
        ("missing_field", "no shape", lambda h: h["0.bias"].pop("shape")),
        ("unknown_type", "an element type that the format lacks", put("0.bias", "dtype", "F8_E4M3")),
        ("lower_case", "an element type in lower case", put("0.bias", "dtype", "f32")),
    ]
    for name, why, change in entry_faults:
        yield fault(name, "entry", "header.0.bias", why, changed(change))


def shapes() -> Iterator[Invalid]:
    """Shapes that no tensor has; the number of bytes fits each of them."""
    most = 2**53 - 1
    bias: list[tuple[str, str, Any]] = [
        ("nine_dimensions", "nine dimensions", [3] + [1] * 8),
        ("negative", "negative dimensions whose product is right", [-1, -3]),
        ("minus_one", "a dimension of -1", [-1]),
        ("float", "a dimension that is a float", [3.0]),
        ("boolean", "a dimension that is a boolean", [3, True]),
        ("no_array", "a shape that is a number", 3),
    ]
    for name, why, shape in bias:
        yield fault(name, "shape", "header.0.bias", why, changed(put("0.bias", "shape", shape)))
    empty = [
        ("overflow", "no elements, but a size that overflows without the zero", [0, most, most]),
        ("overflow_by_one", "2**63 bytes without the zero", [0, 2**31, 2**30]),
    ]
    for name, why, shape in empty:
        made = changed(put("empty", "shape", shape), with_empty_tensor())
        yield fault(name, "shape", "header.empty", why, made)


def offsets() -> Iterator[Invalid]:
    """Offsets, and the data that they point at."""
    own: list[tuple[str, str, Any]] = [
        ("float", "offsets that are floats", [4.0, 16.0]),
        ("three", "three offsets", [4, 16, 16]),
        ("negative", "an offset below 0", [-8, 4]),
        ("backwards", "an end before the begin", [16, 4]),
        ("too_short", "fewer bytes than the shape has", [4, 12]),
        ("too_long", "more bytes than the shape has", [4, 20]),
    ]
    for name, why, pair in own:
        made = changed(put("0.bias", "data_offsets", pair))
        yield fault(name, "offsets", "header.0.bias", why, made)

    def shift(header: Header, by: int) -> None:
        for name, entry in header.items():
            if name not in ("__metadata__", "0.beta"):
                entry["data_offsets"] = [place + by for place in entry["data_offsets"]]

    header, data = parts()
    shift(header, 8)
    yield fault(
        "gap", "offsets", "data", "eight bytes between two tensors", assemble(header, data[:4] + bytes(8) + data[4:])
    )
    header, data = parts()
    shift(header, -4)
    yield fault("overlap", "offsets", "data", "two tensors that share four bytes", assemble(header, data[4:]))
    yield fault(
        "left_over", "offsets", "data", "eight bytes after the last tensor", changed(lambda _: None, more=bytes(8))
    )
    header, data = parts()
    yield fault("truncated", "offsets", "data", "the last byte is missing", assemble(header, data[:-1]))


def digests() -> Iterator[Invalid]:
    """The descriptor's SHA-256."""
    other = hashlib.sha256(b"another descriptor").hexdigest()
    wrong: list[tuple[str, str, Callable[[Header], object]]] = [
        ("other", "another digest", lambda h: h["__metadata__"].update({"lottapack.sha256": other})),
        ("upper_case", "the digest in upper case", upper_case),
        ("changed", "a seed changed by hand", change_seed),
    ]
    for name, why, change in wrong:
        yield fault(name, "digest", "descriptor", why, changed(change))


def upper_case(header: Header) -> None:
    """Write the digest in capitals."""
    header["__metadata__"]["lottapack.sha256"] = header["__metadata__"]["lottapack.sha256"].upper()


def change_seed(header: Header) -> None:
    """Change the descriptor and not its digest."""
    text = header["__metadata__"]["lottapack"]
    header["__metadata__"]["lottapack"] = text.replace("000000000000002a", "000000000000002b")


def cases() -> Iterator[Invalid]:
    """All of them."""
    for group in (lengths, texts, orders, entries, shapes, offsets, digests):
        yield from group()
