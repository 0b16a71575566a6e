"""The dtypes of tensors that the architecture computes (spec: descriptor, section 7)."""

import sys
from collections.abc import Collection

from lottapack.format import dtypes
from lottapack.format.collect import Collector, quote
from lottapack.format.names import name_fault
from lottapack.strict_json.text import JsonText

MAX_COMPUTED = 10_000
FLOATING = tuple(name for name in dtypes.ITEMSIZE if "float" in name)
_LONGEST = 64  # characters of a dtype's name


def read_computed(out: Collector, text: JsonText, parameters: Collection[str]) -> dict[str, str]:
    """Return the dtypes by name. ``parameters``: the names of the pack's parameters, which are not computed."""
    computed: dict[str, str] = {}
    if not text.is_object:
        out.add("field", "computed", f"should be an object, not {text.kind}")
        return computed
    count = sum(1 for _ in text.members())
    if not 1 <= count <= MAX_COMPUTED:
        out.add("field", "computed", f"names {count:,} tensors; it should name 1 to {MAX_COMPUTED:,}")
        return computed
    for name, item in text.members():
        place = f"computed[{quote(name)}]"
        fault = name_fault(name) or ("is a parameter, whose own entry gives its dtype" if name in parameters else None)
        if fault:
            out.add("name", place, fault)
        if item.is_string:
            dtype = str(item.value()) if len(item) <= _LONGEST else "(a long text)"
            out.known(dtype, FLOATING, place, "floating dtype")
            computed[name] = sys.intern(dtype)  # ten thousand separate texts would take half of the memory
        else:
            out.add("field", place, f"should be a string, not {item.kind}")
    return computed
