"""DEFLATE streams bit by bit, for the rules of which streams are valid (spec: codings, section 5)."""

import zlib

ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
HEADER = b"\x78\x9c"


class Bits:
    """Bits of a stream, the lowest of each byte first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def number(self, value: int, count: int) -> "Bits":
        """A number, its lowest bit first."""
        self.bits += [value >> i & 1 for i in range(count)]
        return self

    def code(self, text: str) -> "Bits":
        """A Huffman code, its first bit first."""
        self.bits += [int(bit) for bit in text]
        return self

    def bytes(self) -> bytes:
        """The bits, filled up with zeros."""
        padded = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(sum(bit << j for j, bit in enumerate(padded[i : i + 8])) for i in range(0, len(padded), 8))


def with_checksum(body: bytes, data: bytes, header: bytes = HEADER) -> bytes:
    """A zlib stream of a body that gives ``data``."""
    return header + body + zlib.adler32(data).to_bytes(4, "big")


def canonical(lengths: dict[int, int]) -> dict[int, str]:
    """The code of each symbol, by the lengths."""
    codes, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in lengths.items() if length):
        code <<= length - before
        codes[symbol] = f"{code:0{length}b}"
        code, before = code + 1, length
    return codes


def dynamic(
    literals: list[int],
    distances: list[int],
    symbols: list[tuple[int, ...]],
    *,
    counts: tuple[int, int] | None = None,
    used: dict[int, int] | None = None,
    repeat_first: bool = False,
) -> Bits:
    """A last block with its own codes.

    ``literals``, ``distances``: lengths of codes. ``symbols``: of the literal code, or pairs with one of the distance
    code. ``counts``: what the header says, by default how many lengths there are. ``used``: lengths of the code of
    lengths, by default four bits for each of 0 to 15. ``repeat_first``: repeat the length before the first.
    """
    out = Bits().number(1, 1).number(2, 2)
    said = counts or (len(literals), len(distances))
    lengths = dict.fromkeys(range(16), 4) if used is None else used
    if repeat_first:
        lengths = {16: 1, **dict.fromkeys(range(1), 1)}
    out.number(said[0] - 257, 5).number(said[1] - 1, 5).number(15, 4)
    for symbol in ORDER:
        out.number(lengths.get(symbol, 0), 3)
    codes = canonical(lengths)
    if repeat_first:
        return out.code(codes[16]).number(0, 2)
    for length in (*literals, *distances):
        out.code(codes[length])
    first, second = canonical(dict(enumerate(literals))), canonical(dict(enumerate(distances)))
    for symbol in symbols:
        out.code(first[symbol[0]])
        if len(symbol) > 1:
            out.code(second[symbol[1]])
    return out


def lengths(count: int, **at: int) -> list[int]:
    """``count`` lengths, all 0 but those named: ``s65=1``."""
    made = [0] * count
    for name, length in at.items():
        made[int(name[1:])] = length
    return made


def literal(byte: int) -> str:
    """The fixed code of a byte below 144."""
    return f"{0x30 + byte:08b}"


def far_match() -> bytes:
    """A header that declares a window of 256 bytes, and a match 300 bytes back: 303 bytes."""
    data = bytes(i % 7 for i in range(300))
    data += data[:3]
    out = Bits().number(1, 1).number(1, 2)
    for byte in data[:300]:
        out.code(literal(byte))
    out.code("0000001").code(f"{16:05b}").number(300 - 257, 7).code("0000000")
    return with_checksum(out.bytes(), data, b"\x08\x1d")


def valid() -> dict[str, tuple[bytes, bytes]]:
    """Streams that look odd and are valid, with what they give, by the reason."""
    three = b"AAA"
    one = lengths(257, s65=1, s256=1)
    return {
        "a code of distances without any code": (
            with_checksum(dynamic(one, [0], [(65,)] * 3 + [(256,)]).bytes(), three),
            three,
        ),
        "a code of distances of one code of one bit": (
            with_checksum(
                dynamic(lengths(258, s65=1, s256=2, s257=2), [1], [(65,), (257, 0), (256,)]).bytes(), b"AAAA"
            ),
            b"AAAA",
        ),
        "a literal code of the end alone, of one bit": (
            with_checksum(dynamic(lengths(257, s256=1), [0], [(256,)]).bytes(), b""),
            b"",
        ),
        "a match beyond the window that the header declares": (far_match(), zlib.decompress(far_match())),
        "30 distance codes": (
            with_checksum(dynamic(one, lengths(30, s0=1), [(65,)] * 3 + [(256,)]).bytes(), three),
            three,
        ),
        "286 literal codes": (
            with_checksum(dynamic(lengths(286, s65=1, s256=2, s285=2), [1], [(65,)] * 3 + [(256,)]).bytes(), three),
            three,
        ),
    }


def invalid() -> dict[str, tuple[str, bytes]]:
    """Streams that break a rule, by name, with the reason."""
    four = b"AAAA"
    one = lengths(257, s65=1, s256=1)
    right = [(65,)] * 4 + [(256,)]

    def case(block: "Bits") -> bytes:
        return with_checksum(block.bytes(), four)

    half = Bits().number(1, 1).number(0, 2).bytes() + b"\x04\x00\xfa\xff" + four
    return {
        "kind_three": ("a block of the type 3", with_checksum(Bits().number(1, 1).number(3, 2).bytes(), four)),
        "literals_287": ("287 literal codes", case(dynamic([*one, *[0] * 30], [0], right))),
        "distances_31": ("31 distance codes", case(dynamic(one, [0] * 31, right))),
        "literals_many": (
            "a literal code that is over-subscribed",
            case(dynamic(lengths(257, s65=1, s66=1, s256=1), [0], right)),
        ),
        "literals_few": ("a literal code that is incomplete", case(dynamic(lengths(257, s65=2, s256=2), [0], right))),
        "distances_many": ("a distance code that is over-subscribed", case(dynamic(one, [1, 1, 1], right))),
        "distances_few": ("a distance code of two codes that is incomplete", case(dynamic(one, [2, 2], right))),
        "distance_two_bits": ("a distance code of one code of two bits", case(dynamic(one, [2], right))),
        "lengths_few": ("a code of lengths that is incomplete", case(dynamic(one, [0], right, used={0: 2, 1: 2}))),
        "lengths_many": (
            "a code of lengths that is over-subscribed",
            case(dynamic(one, [0], right, used={0: 1, 1: 1, 2: 1})),
        ),
        "no_end": (
            "a literal code without an end of block",
            case(dynamic(lengths(257, s65=1, s66=1), [0], [(65,)] * 4)),
        ),
        "repeat_nothing": (
            "a repeat of the length before the first",
            case(dynamic(one, [0], right, repeat_first=True)),
        ),
        "window": ("a header that declares a window of 65,536 bytes", b"\x88\x1c" + case(dynamic(one, [0], right))[2:]),
        "stored_lengths": (
            "a stored block whose two lengths disagree",
            with_checksum(half, four),
        ),
        "distance_30": (
            "the fixed distance code 30",
            case(Bits().number(1, 1).number(1, 2).code(literal(65)).code("0000001").code(f"{30:05b}")),
        ),
        "length_286": (
            "the fixed literal code 286",
            case(Bits().number(1, 1).number(1, 2).code(literal(65)).code("11000110").code("00000")),
        ),
    }
