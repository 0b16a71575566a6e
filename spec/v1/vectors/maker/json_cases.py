"""The cases of ``json.json``: texts with their canonical form, and texts that are refused."""

import json
from typing import Any

from .canonical import text_of

ACCEPTED = [
    ("null", "null"),
    ("true and false", "[true,false]"),
    ("white space between tokens", ' { "a" : [ 1 ,\n\t2 ] }\r\n'),
    ("empty containers", '{"a":{},"b":[],"c":""}'),
    ("keys in order", '{"b":1,"a":2,"":3,"A":4,"_":5}'),
    ("keys in the order of code points, not of UTF-16 units", '{"\U0001f3b2":1,"\ue000":2,"é":3,"z":4}'),
    ("a key that begins another", '{"ab":1,"a":2,"a b":3}'),
    ("escapes that must be", '"\\"\\\\\\b\\t\\n\\f\\r\\u0000\\u001f\\u000B"'),
    ("escapes that must not be", '"\\/\\u0041\\u00e9\\ud83c\\udfb2\\u007f\\u2028"'),
    ("characters that stand for themselves", '"\x7f\u0085\u2028é層🎲/"'),
    ("not normalised: the text is kept", '"e\u0301"'),
    ("small integers", "[0,1,-1,10]"),
    ("the integers' range", "[-9007199254740991,9007199254740991]"),
    ("an integer is not a float", "[1,1.0,1e0,0,0.0]"),
    ("minus zero, an integer", "-0"),
    ("minus zero, a float", "[-0.0,-0e5]"),
    ("positional from 1e-4", "[0.0001,0.00012345,0.00009999]"),
    ("positional below 1e16", "[1e15,1e16,9999999999999998.0,1234567890123456.0,123456789012345680.0]"),
    ("digits around the point", "[8.0,0.5,12.5,100.0,1.5e1]"),
    ("one digit and an exponent", "[1e-5,1E+16,3e100,5e-324]"),
    ("several digits and an exponent", "[1.5e+16,1.7976931348623157e308,2.2250738585072014e-308,-1.25e-7]"),
    ("more digits than the shortest", "[0.1000000000000000055511151231257827,0.30000000000000004,2.50]"),
    ("a binary32 number", "0.05103103816509247"),
    (
        "of two nearest digits the even one",
        "[2.9802322387695312e-08,82.12527465820312,0.9297256469726562,2.98023223876953125e-08]",
    ),
    ("too small for binary64: zero", "[1e-400,-1e-400]"),
    ("half of the least number: zero, to even", "2.4703282292062327e-324"),
    ("nested 64 deep", "[" * 64 + "]" * 64),
    ("a key of 8,192 bytes", '{"' + "é" * 4096 + '":0}'),
]

LATER = [
    *(
        (f"a key of 8,192 bytes, {why}", '{"' + character * (8192 // len(character.encode())) + rest + '":0}')
        for why, character, rest in (
            ("the last of one byte", "\x7f", ""),
            ("the first of two bytes", "\x80", ""),
            ("the last of two bytes", "\u07ff", ""),
            ("the first of three bytes", "\u0800", "ab"),
            ("the last before the surrogates", "\ud7ff", "ab"),
            ("the first after the surrogates", "\ue000", "ab"),
            ("the first of four bytes", "\U00010000", ""),
            ("the last of four bytes", "\U0010ffff", ""),
            ("of four bytes, whose second surrogate is the last", "\U000103ff", ""),
        )
    ),
    ("keys around the surrogates", '{"\ud7ff":0,"\ue000":1,"\uffff":2,"\U00010000":3}'),
    ("keys of which surrogates differ", '{"\U000103fe":0,"\U000103ff":1,"\U00010400":2,"\U0010ffff":3}'),
    ("keys that a surrogate follows", '{"a\uffff":0,"a\U00010000":1,"b\ud7ff":2,"b\U0010ffff":3}'),
    ("two keys in the order of UTF-16 units", '{"\U00010000":0,"\ue000":1}'),
    ("two keys in the order of UTF-16 units, after a letter", '{"a\U0010ffff":0,"a\uffff":1}'),
    (
        "the nearest of the fewest digits read back as the number below a power of two",
        "[5.684341886080802e-14,6.386688990511104e+293,-7.174648137343064e-43]",
    ),
]
"""Texts that are accepted and stand after those that are refused in the index."""

# Why, kind, and the bytes: one piece, or pieces that are repeated.
REFUSED: list[tuple[str, str, bytes | list[tuple[bytes, int]]]] = [
    ("empty", "json", b""),
    ("no value", "json", b" "),
    ("a byte order mark", "json", b"\xef\xbb\xbf{}"),
    ("not UTF-8: a lone continuation byte", "json", b'"\x80"'),
    ("not UTF-8: an overlong form", "json", b'"\xc0\xaf"'),
    ("not UTF-8: a surrogate", "json", b'"\xed\xa0\x80"'),
    ("not UTF-8: cut off", "json", b'"\xe5\xb1"'),
    ("a lone high surrogate", "json", b'"\\ud83c"'),
    ("a lone low surrogate", "json", b'"\\udfb2"'),
    ("surrogates the wrong way round", "json", b'"\\udfb2\\ud83c"'),
    ("a lone surrogate in a key", "json", b'{"\\ud83c":1}'),
    ("a control character in a string", "json", b'"a\tb"'),
    ("an unknown escape", "json", b'"\\x41"'),
    ("an escape cut off", "json", b'"\\u00"'),
    ("a string without an end", "json", b'"abc'),
    ("single quotes", "json", b"'a'"),
    ("a bare word", "json", b"nul"),
    ("NaN", "json", b"NaN"),
    ("Infinity", "json", b"[Infinity]"),
    ("minus Infinity", "json", b"-Infinity"),
    ("beyond binary64", "json", b"1e309"),
    ("an integer of 2**53", "json", b"9007199254740992"),
    ("an integer of -2**53", "json", b"-9007199254740992"),
    ("an integer of 2**53, in an array", "json", b"[1,9007199254740992]"),
    ("an integer of 2**53, in an object", "json", b'{"a":9007199254740992}'),
    ("an integer of 17 digits", "json", b"10000000000000000"),
    ("an integer of 2**64", "json", b"18446744073709551616"),
    ("an integer of -2**63", "json", b"-9223372036854775808"),
    ("an integer of 5,000 digits", "json", [(b"9", 5000)]),
    ("a leading zero", "json", b"01"),
    ("a leading plus", "json", b"+1"),
    ("no digit before the point", "json", b".5"),
    ("no digit after the point", "json", b"5."),
    ("hexadecimal", "json", b"0x10"),
    ("digits of another script", "json", "٣".encode()),
    ("a trailing comma in an array", "json", b"[1,]"),
    ("a trailing comma in an object", "json", b'{"a":1,}'),
    ("a comment", "json", b"[1]//"),
    ("a key that is no string", "json", b"{1:2}"),
    ("two values", "json", b"1 2"),
    ("an array without an end", "json", b"[1"),
    ("white space that JSON does not know", "json", b"[1,\xc2\xa02]"),
    ("nested 65 deep", "json", [(b"[", 65), (b"]", 65)]),
    ("nested 65 deep, objects", "json", [(b'{"a":', 65), (b"1", 1), (b"}", 65)]),
    ("nested 100,000 deep", "json", [(b"[", 100_000), (b"]", 100_000)]),
    ("a key twice", "canonical", b'{"a":1,"a":1}'),
    ("a key twice, deep", "canonical", b'[{"b":{"a":1,"a":2}}]'),
    ("a key twice, written in two ways", "canonical", b'{"a":1,"\\u0061":1}'),
    ("a key twice, out of order", "canonical", b'{"a":1,"b":2,"a":3}'),
    ("a key twice, behind white space", "canonical", b'{ "a":1,"a":1}'),
    ("a key twice, and then no JSON", "json", b'{"a":1,"a":1,}'),
    ("out of order, and then no JSON", "json", b'{"b":1,"a":2,}'),
    ("not UTF-8, behind white space", "json", b'[ 1,"\xff"]'),
    ("a key of 8,193 bytes", "json", [(b'{"', 1), (b"k", 8193), (b'":0}', 1)]),
    ("a key of 8,193 bytes in 2,731 characters", "json", [(b'{"', 1), ("層".encode(), 2731), (b'":0}', 1)]),
    ("a key of 8,193 bytes as it is written", "json", [(b'{"', 1), (b"\\n", 4096), (b'k":0}', 1)]),
    ("an escaped key behind a plain one that follows it", "canonical", b'{"A":0,"\\n":1}'),
    ("another sign for the colon", "json", b'{"a"=1}'),
    ("a comma for the colon", "json", b'{"a",1}'),
    ("a colon for the comma", "json", b"[1:2]"),
    *(
        (f"a key of over 8,192 bytes, {why}", "json", [(b'{"', 1), (character.encode(), times), (b'":0}', 1)])
        for why, character, times in (
            ("the last of one byte", "\x7f", 8193),
            ("the first of two bytes", "\x80", 4097),
            ("the last of two bytes", "\u07ff", 4097),
            ("the first of three bytes", "\u0800", 2731),
            ("the last before the surrogates", "\ud7ff", 2731),
            ("the first after the surrogates", "\ue000", 2731),
            ("the first of four bytes", "\U00010000", 2049),
        )
    ),
]


def known_answers() -> dict[str, Any]:
    """``json.json``."""
    accepted = []
    for why, text in (*ACCEPTED, *LATER):
        form = text_of(json.loads(text))
        accepted.append({"why": why, "text": text, "canonical": form, "is_canonical": text == form})
    refused = []
    for why, kind, data in REFUSED:
        pieces = [(data, 1)] if isinstance(data, bytes) else data
        refused.append({"why": why, "kind": kind, "pieces": [[piece.hex(), times] for piece, times in pieces]})
    return {"accepted": accepted, "refused": refused}
