"""DEFLATE streams of every code, and streams that break one rule and would give the right bytes without it."""

import zlib
from collections.abc import Iterable

from .deflate import ORDER, Bits, canonical, with_checksum

Token = int | tuple[int, int]
"""A literal, or the length and the distance of a match."""
END = 256
LONGEST = 258
FIXED = canonical({symbol: 8 if symbol < 144 or symbol > 279 else 9 if symbol < 256 else 7 for symbol in range(288)})
DISTANCES = canonical(dict.fromkeys(range(32), 5))


def ranges(first: int, doublings: int, per: int) -> list[tuple[int, int]]:
    """The least value and the extra bits of each code: ``2 * per`` without any, then ``per`` for each more bit."""
    made, value = [], first
    for extra in range(doublings):
        for _ in range(per if extra else 2 * per):
            made.append((value, extra))
            value += 1 << extra
    return made


OF_LENGTHS = [*ranges(3, 6, 4), (LONGEST, 0)]
OF_DISTANCES = ranges(1, 14, 2)


def code_of(value: int, codes: list[tuple[int, int]]) -> tuple[int, int, int]:
    """The code of a length or a distance, the number in its extra bits, and their count."""
    number = max(number for number, (least, _) in enumerate(codes) if least <= value)
    least, extra = codes[number]
    return number, value - least, extra


def data_of(tokens: Iterable[Token]) -> bytes:
    """What tokens stand for."""
    out = bytearray()
    for token in tokens:
        if isinstance(token, int):
            out.append(token)
            continue
        length, distance = token
        for _ in range(length):
            out.append(out[-distance])
    return bytes(out)


def put(out: Bits, tokens: Iterable[Token], literals: dict[int, str], distances: dict[int, str]) -> Bits:
    """The tokens of a block, and its end."""
    for token in tokens:
        if isinstance(token, int):
            out.code(literals[token])
            continue
        for value, codes, of, first in ((token[0], OF_LENGTHS, literals, 257), (token[1], OF_DISTANCES, distances, 0)):
            number, rest, extra = code_of(value, codes)
            out.code(of[number + first]).number(rest, extra)
    return out.code(literals[END])


def fixed(tokens: Iterable[Token], *, last: bool = True, kind: int = 1, out: Bits | None = None) -> Bits:
    """A block of the type 1."""
    return put((out or Bits()).number(last, 1).number(kind, 2), tokens, FIXED, DISTANCES)


Run = tuple[int, int]
"""A number of the code of lengths: a length and how many; 16, 17 or 18 and what is in its extra bits."""
EXTRA = {16: 2, 17: 3, 18: 7}


def dynamic(
    counts: tuple[int, int],
    runs: list[Run],
    tokens: Iterable[Token],
    *,
    kind: int = 2,
    distance: dict[int, str] | None = None,
) -> Bits:
    """A last block of the type 2, whose lengths are written as ``runs``.

    ``distance``: the codes of distances, if not those that the lengths give.
    """
    lengths: list[int] = []
    for number, count in runs:
        before = lengths[-1] if lengths else 0
        times = {16: 3, 17: 3, 18: 11}.get(number, 0) + count
        lengths += [before if number == 16 else 0 if number in EXTRA else number] * times
    codes = _code_of_lengths({number for number, _ in runs})
    used = [number for number, symbol in enumerate(ORDER) if symbol in codes]
    out = Bits().number(1, 1).number(kind, 2).number(counts[0] - 257, 5).number(counts[1] - 1, 5)
    out.number(max(used) - 3, 4)
    for symbol in ORDER[: max(used) + 1]:
        out.number(len(codes.get(symbol, "")), 3)
    for number, count in runs:
        if number in EXTRA:
            out.code(codes[number]).number(count, EXTRA[number])
        else:
            for _ in range(count):
                out.code(codes[number])
    first = canonical(dict(enumerate(lengths[: counts[0]])))
    second = canonical(dict(enumerate(lengths[counts[0] : sum(counts)])))
    return put(out, tokens, first, distance or second)


def _code_of_lengths(used: set[int]) -> dict[int, str]:
    """A complete code of some lengths, of one number of bits or of two."""
    order = sorted(used)
    bits = (len(order) - 1).bit_length()
    short = (1 << bits) - len(order)
    return canonical({length: bits - (number < short) for number, length in enumerate(order)})


def every_token() -> list[Token]:
    """Each literal, and each code of lengths and distances with the least and the most in its extra bits."""
    tokens: list[Token] = [(37 * n) % 256 for n in range(256)]
    ends = [(least + more) for least, extra in OF_LENGTHS for more in (0, (1 << extra) - 1)]
    tokens += [(length if length != 259 else LONGEST, 100 + length) for length in ends[:-2]]
    tokens += [(LONGEST, 211 + n) for n in range(130)]
    for least, extra in OF_DISTANCES:
        tokens += [(3, least), (4, least + (1 << extra) - 1)]
    return tokens


def unary(lengths: int, most: int) -> list[int]:
    """A complete code: one symbol for each length up to ``most``, and all others in 14 or 15 bits."""
    rest, units = lengths - most, 1 << 15 - most
    return [*range(1, most + 1), *[14] * (units - rest), *[15] * (2 * rest - units)]


def runs_of(lengths: list[int]) -> list[Run]:
    """Lengths one by one."""
    return [(length, 1) for length in lengths]


REPEATS: list[Run] = [
    *((18, 127), (18, 0), (17, 0), (17, 7)),  # no code for 0 to 161
    *((3, 1), (16, 0)),  # 162 to 165
    (18, 79),  # none for 166 to 255
    *((4, 1), (16, 3), (5, 2)),  # 256 to 264
    *((18, 14), (1, 2)),  # none for 265 to 285 and the distances 0 to 3
]
"""Runs of every kind with the least and the most in their extra bits; one goes on from literals to distances."""


def several() -> tuple[bytes, bytes]:
    """Blocks of every type, some of them empty, each beginning at another bit."""
    first: list[Token] = [5, 200, (3, 1), (9, 5)]
    stored = bytes((91 * n) % 256 for n in range(300))
    out = fixed(first, last=False)
    for piece in (stored, b"", stored[:7]):
        out.number(0, 3).number(0, -len(out.bits) % 8)
        for size in (len(piece), 0xFFFF - len(piece)):
            out.number(size, 16)
        for byte in piece:
            out.number(byte, 8)
    fixed([], last=False, out=out)
    fixed([1, 2, (258, 300)], out=out)
    data = data_of([*first, *stored, *stored[:7], 1, 2, (258, 300)])
    return with_checksum(out.bytes(), data), data


def valid() -> dict[str, tuple[bytes, bytes]]:
    """Valid streams with what they give, by the reason."""
    tokens = every_token()
    some: list[Token] = [*[162, 163, 164, 165] * 2, *[(3 + n % 8, 5 + n % 4) for n in range(1, 17)]]
    blocks = {
        "every code of a block of type 1": (fixed(tokens), tokens),
        "every code of a block of type 2, of up to 15 bits": (
            dynamic((286, 30), runs_of(unary(286, 6)) + runs_of(unary(30, 10)), tokens),
            tokens,
        ),
        "runs of lengths": (dynamic((286, 6), REPEATS, some), some),
        "a run that ends with the last length": (
            dynamic((257, 3), [(0, 65), (1, 1), (0, 190), (1, 1), (17, 0)], [65]),
            [65],
        ),
        "five lengths in the code of lengths": (
            dynamic((257, 1), [(8, 255), (0, 1), (8, 1), (0, 1)], [7, 7, 254, 0]),
            [7, 7, 254, 0],
        ),
    }
    inner = Bits().number(1, 1).number(1, 2).code(FIXED[9]).code(FIXED[284]).number(31, 5).code(DISTANCES[0])
    blocks["a length of 258 in the code 284"] = inner.code(FIXED[END]), [9, (258, 1)]
    made = {
        why: (with_checksum(block.bytes(), data_of(given)), data_of(given)) for why, (block, given) in blocks.items()
    }
    made["blocks of every type, one after the other"] = several()
    assert all(zlib.decompress(stream) == data for stream, data in made.values())
    return made


FOUR: list[Token] = [65] * 4


def far(distance: int) -> list[Token]:
    """At least so many bytes, and a multiple of four less three."""
    whole = distance // LONGEST + 1
    return [65, *[(LONGEST, 1)] * whole, *[65] * (-whole * LONGEST % 4)]


def invalid() -> dict[str, tuple[str, bytes, bytes]]:
    """Streams with one fault each, by name: the reason, the stream, and what it gives a reader that overlooks it."""
    four = data_of(FOUR)
    plain = fixed(FOUR).bytes()
    one = [(0, 65), (1, 1), (0, 190), (1, 1)]  # the literal 65 and the end in one bit each
    zeros = bytes([255] * 256 + [240, 0, 0, 0])
    zero_ended = with_checksum(fixed(list(zeros)).bytes(), zeros)
    made = {
        "check": ("a header that is no multiple of 31", with_checksum(plain, four, b"\x78\x9d"), four),
        "method_7": ("the method 7", with_checksum(plain, four, b"\x77\x09"), four),
        "method_9": ("the method 9", with_checksum(plain, four, b"\x79\x18"), four),
        "dictionary_flag": ("a preset dictionary without its number", with_checksum(plain, four, b"\x78\x20"), four),
        "kind_three_fixed": ("type 3 before fixed codes", with_checksum(fixed(FOUR, kind=3).bytes(), four), four),
        "kind_three_dynamic": (
            "type 3 before codes of its own",
            with_checksum(dynamic((257, 1), [*one, (0, 1)], FOUR, kind=3).bytes(), four),
            four,
        ),
        "before_data": (
            "a match that begins a byte before the data",
            with_checksum(fixed([65, (3, 2)]).bytes(), b"A\0A\0"),
            b"A\0A\0",
        ),
        "no_distance": (
            "a match without a code of distances",
            with_checksum(
                dynamic((258, 1), [(0, 65), (1, 1), (0, 190), (2, 2), (0, 1)], [65, (3, 1)], distance={0: ""}).bytes(),
                four,
            ),
            four,
        ),
        "distance_other_bit": (
            "the other bit where the code of distances has one code of one bit",
            with_checksum(
                dynamic((258, 1), [(0, 65), (1, 1), (0, 190), (2, 2), (1, 1)], [65, (3, 1)], distance={0: "1"}).bytes(),
                four,
            ),
            four,
        ),
        "cut_zero": ("a stream without its last byte, a zero", zero_ended[:-1], zeros),
        "cut_zeros": ("a stream without its last two bytes, zeros", zero_ended[:-2], zeros),
        "runs_long": (
            "a run of zeros beyond the last length",
            with_checksum(dynamic((257, 1), [*one, (17, 0)], FOUR).bytes(), four),
            four,
        ),
        "repeats_long": (
            "a repeat beyond the last length",
            with_checksum(dynamic((257, 2), [*one, (0, 1), (16, 0)], FOUR).bytes(), four),
            four,
        ),
        "repeat_first": (
            "a repeat of the length before the first, as if it were 0",
            with_checksum(dynamic((257, 1), [(16, 0), (0, 62), (1, 1), (0, 190), (1, 1), (0, 1)], FOUR).bytes(), four),
            four,
        ),
    }
    for symbol in (286, 287):
        out = Bits().number(1, 1).number(1, 2)
        for literal in FOUR:
            out.code(FIXED[literal])
        out.code(FIXED[symbol]).code(DISTANCES[0]).code(FIXED[END])
        made[f"length_{symbol}_of_nothing"] = (
            f"the fixed literal code {symbol} after all bytes",
            with_checksum(out.bytes(), four),
            four,
        )
    for symbol, distance in ((30, 2**15 + 1), (31, 3 * 2**14 + 1)):
        tokens = far(distance)
        out = put(Bits().number(1, 1).number(1, 2), tokens, FIXED, DISTANCES)
        del out.bits[-len(FIXED[END]) :]
        out.code(FIXED[257]).code(DISTANCES[symbol]).number(0, 14).code(FIXED[END])
        data = data_of([*tokens, (3, 1)])
        made[f"distance_{symbol}_far"] = (
            f"the fixed distance code {symbol}, {distance:,} bytes back",
            with_checksum(out.bytes(), data),
            data,
        )
    for name, complement in (("ones", 0xFFFF), ("high", 0xFEFB), ("zero", 0)):
        head = Bits().number(1, 1).number(0, 7).number(4, 16).number(complement, 16).bytes()
        why = f"a stored block of 4 bytes whose second length is {complement:04x}"
        made[f"stored_{name}"] = why, with_checksum(head + four, four), four
    for byte in range(3):
        sound = bytearray(with_checksum(plain, four))
        sound[byte - 4] ^= 0x10
        made[f"checksum_{byte}"] = f"another byte {byte} of the checksum", bytes(sound), four
    return made


def later() -> dict[str, tuple[str, bytes, bytes]]:
    """More of them."""
    data = bytes([255] * 256 + [240, 0, 0, 0])
    assert zlib.adler32(data) & 0xFFFF == 0
    out = fixed(FOUR, last=False).number(1, 1).number(3, 2)
    cut = Bits().number(1, 1).number(1, 2)
    for literal in data_of(FOUR):
        cut.code(FIXED[literal])
    short, long = (with_checksum(fixed(list(given)).bytes(), given) for given in (data, data + bytes(8)))
    return {
        "ends_with_286": (
            "the fixed literal code 286 as the last one",
            with_checksum(cut.code(FIXED[286]).bytes(), data_of(FOUR)),
            data_of(FOUR),
        ),
        "kind_three_last": (
            "an empty last block of the type 3",
            with_checksum(out.bytes(), data_of(FOUR)),
            data_of(FOUR),
        ),
        "zeros_short": ("four zeros too few, which the checksum does not show", short, data + bytes(4)),
        "zeros_long": ("four zeros too many, which the checksum does not show", long, data + bytes(4)),
    }


def long() -> tuple[bytes, bytes]:
    """A short stream of 120,000 bytes."""
    tokens: list[Token] = [(37 * n) % 256 for n in range(120)]
    tokens += [(LONGEST, 100 + n % 20) for n in range((120_000 - 120) // LONGEST)]
    tokens += [77] * (120_000 - len(data_of(tokens)))
    return with_checksum(fixed(tokens).bytes(), data_of(tokens)), data_of(tokens)


def stored(data: bytes) -> bytes:
    """A stream of blocks of the type 0."""
    body, most = b"", 0xFFFF
    for first in range(0, len(data), most):
        piece = data[first : first + most]
        size = len(piece).to_bytes(2, "little")
        body += bytes([first + most >= len(data)]) + size + bytes(255 - byte for byte in size) + piece
    return with_checksum(body, data)
