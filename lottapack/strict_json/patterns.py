r"""Byte patterns of canonical and other JSON (spec: container, section 4).

Each pattern takes time linear in the length of its match: a repetition that could match in two ways never backtracks.
Each repeated group ends with an empty alternative, ``|)*+``, because it must not fail: Python before 3.11.5 resumes
after such a failure from the middle of the last attempt (python/cpython#106052).
"""

import re

_CHARS = rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\]|[bfnrt]|u00(?:0[0-7bef]|1[0-9a-f]))[^"\\\x00-\x1f]*+|)*+'
_PARTS = {
    b"%tensor%": rb'\{"dtype":%string%,"sha256":%string%\}',
    b"%shape%": rb"\[(?:%natural%(?:,(?=[0-9])|(?=\]))|)*+\]",
    b"%scalar%": rb"(?:%string%|0|-?[1-9][0-9]{0,14}|true|false|null)",
    b"%string%": rb'"%chars%"',
    b"%natural%": rb"(?:0|[1-9][0-9]{0,14})",
    b"%float%": rb"-?[0-9]{1,17}\.[0-9]{1,20}",
    b"%boolean%": rb"(?:true|false)",
    b"%chars%": _CHARS,
}


def _compile(pattern: bytes) -> re.Pattern[bytes]:
    for name, part in _PARTS.items():
        pattern = pattern.replace(name, part)
    return re.compile(pattern)


_ENTRY = (
    rb'\{(?:"data_offsets":\[%natural%,%natural%\],"dtype":%string%,"shape":%shape%|"role":%string%,"to":%string%|'
    rb'(?:"adapter":\{(?:"beta":%tensor%,)?"lora_A":%tensor%,"lora_B":%tensor%(?:,"magnitude":%tensor%)?\},'
    rb'"alpha":(?P<alpha>%float%),)?(?:"batch_dims":%natural%,)?(?:"coding":\{"codes":%string%,"id":%string%(?:,"scales":%string%)?\},)?'
    rb'(?:"distribution":%string%,)?"dtype":%string%,(?:"fan_in_fan_out":%boolean%,)?(?:"fingerprint":%string%,)?'
    rb'(?:"group":%string%,)?(?:"rank":%natural%,)?"role":%string%,(?:"scale":(?P<scale>%float%),)?'
    rb'(?:"scaling":%string%,)?(?:"sha256":%string%,)?"shape":%shape%(?:,"shared_factor":%string%)?'
    rb'(?:,"trained":%boolean%)?'
    rb'(?:,"value":%string%)?)\}'
)
"""The usual entry of a tensor or a parameter. Keys in the pattern's order are sorted."""

MEMBER = _compile(rb'"(?P<key>%chars%)":(?:(?:%scalar%|' + _ENTRY + rb")(?P<behind>[,}])|(?P<open>[\[{]))?")
"""A canonical key with its value and what follows it, if these are simple; otherwise the container that it opens.

The floats ``alpha`` and ``scale`` of an entry must still be compared with their canonical form.
"""

ITEMS = _compile(rb"(?:%scalar%,|)*+(?:%scalar%(?P<behind>\])|(?P<open>[\[{]))?")
"""The next simple canonical items of an array, and the container that opens after them."""

STRING = _compile(rb'"(?P<chars>%chars%)"')
SPACE = re.compile(rb"[ \t\n\r]*+")
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?P<fraction>\.[0-9]++)?(?P<exponent>[eE][-+]?[0-9]++)?")
WORD = re.compile(rb"true|false|null")

_HIGH, _LOW = rb"u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = rb'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|' + _HIGH + _LOW + rb")"
ANY_STRING = re.compile(rb'"(?P<chars>(?:[^"\\\x00-\x1f]++|' + _ESCAPE + rb'|)*+)"')
"""A JSON string, canonical or not, without lone surrogates."""

_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+|)*+"'
_CONTAINER = rb"[\[{](?:[^\[\]{}\"]++|" + _TEXT + rb"|)*+[\]}]"
for _ in range(3):
    _CONTAINER = rb"[\[{](?:[^\[\]{}\"]++|" + _TEXT + rb"|" + _CONTAINER + rb"|)*+[\]}]"
_VALUE = _TEXT + rb'|[^\[\]{}",:]++|' + _CONTAINER
KNOWN_MEMBER = re.compile(rb'"(?P<key>[^"\\]*+(?:\\.[^"\\]*+|)*+)":(?P<value>' + _VALUE + rb")?", re.DOTALL)
"""A member of an object in text known to be canonical. Containers up to four levels deep match as a whole."""

USUAL_TENSOR = _compile(
    rb'"(?P<name>[^"\\\x00-\x1f]{0,8192}+)":\{"data_offsets":\[(?P<begin>%natural%),(?P<end>%natural%)\],'
    rb'"dtype":"(?P<dtype>[A-Z0-9_]{1,16}+)","shape":\[(?P<shape>[0-9,]{0,160}+)\]\}(?:,|\}\Z)'
)
"""A tensor of a safetensors header, with its name, if these need no escapes. The shape must still be checked."""

USUAL_SHAPE = _compile(rb"(?:%natural%(?:,%natural%|)*+)?")

METADATA_BEGIN = b'"__metadata__":{"lottapack":"'
METADATA_END = re.compile(rb'","lottapack\.sha256":"([0-9a-f]{64})"\}(?:,|\}\Z)')
"""What stands around the descriptor in such a header, and its SHA-256. No string contains the end's first quotes."""

KNOWN_VALUE = re.compile(_VALUE, re.DOTALL)
"""A container up to four levels deep in such text."""

KNOWN_BRACKETS = re.compile(
    rb'(?:[^\[\]{}"]++|' + _TEXT + rb"|" + _CONTAINER + rb"|)*+(?:(?P<open>[\[{]++)|(?P<close>[\]}]++))", re.DOTALL
)
"""The next brackets of one kind outside strings in such text, after any containers up to four levels deep."""

KNOWN_KEY = re.compile(
    rb'(?:[^\[\]{}",]++|"[^"\\]*+(?:\\.[^"\\]*+|)*+"(?!:)|)*+(?:"(?P<key>[^"\\]*+(?:\\.[^"\\]*+|)*+)":|(?P<mark>[\[\]{},]))',
    re.DOTALL,
)
"""The next key, bracket or comma outside strings in such text."""

KNOWN_INTEGERS = re.compile(rb"\[(?:-?[0-9]++(?:,(?=[-0-9])|(?=\]))|)*+\]")
"""An array that only has integers."""

KNOWN_CHARS = re.compile(rb"(?:[^\\]{1,64}+|\\(?:u[0-9a-f]{4}|[^u])|){1,1024}+[\x80-\xbf]*+")
"""At most 64 KiB of a string in such text, cut between characters."""
