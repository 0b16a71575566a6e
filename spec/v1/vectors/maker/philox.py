"""The generator: stream.md, section 1."""

from typing import Any

M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10


def lo32(x: Any) -> Any:
    """``x mod 2**32``."""
    return x & 0xFFFFFFFF


def hi32(x: Any) -> Any:
    """``x >> 32``."""
    return x >> 32


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Four output words; a word of the counter is an integer or a ``uint64`` array of integers below 2**32."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0 = M0 * c0
        p1 = M1 * c2
        c0, c1, c2, c3 = hi32(p1) ^ c1 ^ k0, lo32(p1), hi32(p0) ^ c3 ^ k1, lo32(p0)
        k0, k1 = lo32(k0 + W0), lo32(k1 + W1)
    return c0, c1, c2, c3


# Random123, tests/kat_vectors: counter, key, output.
RANDOM123 = """
00000000 00000000 00000000 00000000   00000000 00000000   6627e8d5 e169c58d bc57ac4c 9b00dbd8
ffffffff ffffffff ffffffff ffffffff   ffffffff ffffffff   408f276d 41c83b0e a20bc7c6 6d5451fd
243f6a88 85a308d3 13198a2e 03707344   a4093822 299f31d0   d16cfe09 94fdcceb 5001e420 24126ea1
00000001 00000000 00000000 00000000   00000001 00000000   ac08141b dfc5ccbe 79c07a47 a7f66093
00000000 00000001 00000000 00000000   00000001 00000000   833ff8dc 225c963c 232b88b3 0b334b07
00000000 00000000 00000001 00000000   00000001 00000000   07071c12 428264b6 3909104b 6da2bda2
00000000 00000000 00000000 00000001   00000001 00000000   127bee41 1e047488 48842b20 0a393496
00000001 00000000 00000000 00000000   00000000 00000001   ccf3076a 6306f434 bea71965 d96fe48a
"""

# C++26, [rand.predef]: the 10,000th value of a default-constructed std::philox4x32.
CPP26 = {"seed": 20111115, "index": 9999, "value": 1955073260}


def known_answers() -> dict[str, Any]:
    """``philox.json``: published answers, each confirmed by the generator above."""
    cases = []
    for line in RANDOM123.strip().splitlines():
        words = line.split()
        c0, c1, c2, c3, k0, k1 = (int(word, 16) for word in words[:6])
        assert [f"{word:08x}" for word in philox4x32((c0, c1, c2, c3), (k0, k1))] == words[6:], line
        cases.append({"counter": words[:4], "key": words[4:6], "output": words[6:]})
    counter, lane = divmod(CPP26["index"], 4)
    assert philox4x32((counter, 0, 0, 0), (CPP26["seed"], 0))[lane] == CPP26["value"]
    return {"random123": cases, "cpp26": {**CPP26, "counter": counter, "lane": lane}}
