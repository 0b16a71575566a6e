"""Read a usual descriptor at once: one without extensions, whose text is canonical and whose entries fit the records.

It finds no faults: whatever is unusual is read part by part, which also finds what is wrong (decision 0070).
"""

import re

import msgspec

from lottapack.format.descriptor import MAX_PARAMETERS, Parameter
from lottapack.strict_json.check import JsonFaultError, check
from lottapack.strict_json.rewritten import behind_object
from lottapack.strict_json.text import JsonText


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    architecture: msgspec.Raw
    lottapack: msgspec.Raw
    parameters: dict[str, Parameter]
    provenance: msgspec.Raw
    rng: msgspec.Raw
    computed: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    files: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    results: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="x-results", default=msgspec.UNSET)


_decoder = msgspec.json.Decoder(_Fields)
_LONG_SHAPE = re.compile(rb'"shape":\[[0-9,]{300}')
"""A shape that would take several times its text."""
_NAMES = {field.encode_name: field.name for field in msgspec.structs.fields(_Fields)}


def usual_fields(data: bytes) -> tuple[dict[str, JsonText], dict[str, Parameter]] | None:
    """Return the fields of a descriptor and the records of its parameters, or None if it is unusual or faulty.

    The numbers of the records must still be checked by is_canonical().
    """
    if data.count(b'"role":') > MAX_PARAMETERS or _LONG_SHAPE.search(data):
        return None
    try:
        found = _decoder.decode(data)
        held = {name: getattr(found, field) for name, field in sorted(_NAMES.items())}
        at, fields = 0, dict[str, JsonText]()
        for name, value in held.items():
            if value is msgspec.UNSET:
                continue
            key = b'%b"%b":' % (b"," if fields else b"{", name.encode())
            begin = at + len(key)
            if isinstance(value, msgspec.Raw):
                text = bytes(value)
                check(text, within=1)
                at = begin + len(text) if data.startswith(text, begin) else -1
            else:
                at = behind_object(data, begin, value)
            if at < 0 or not data.startswith(key, begin - len(key)):
                return None
            fields[name] = JsonText(data, begin, at)
    except (msgspec.MsgspecError, JsonFaultError, UnicodeDecodeError, RecursionError):
        return None
    return (fields, found.parameters) if data.endswith(b"}") and at == len(data) - 1 else None
