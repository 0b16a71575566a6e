"""What clients make of an OCI registry's answers to pull, push, list and log (see scripts)."""

import json
from collections.abc import Iterator

import scripts
from scripts import mutated

__all__ = ["mutated", "one", "seeds"]


def seeds() -> Iterator[bytes]:
    """A registry that answers as it should, and some that say the same in other ways."""
    script = scripts.oci_script()
    yield json.dumps(script).encode()
    for question in script:
        yield json.dumps({name: reply for name, reply in script.items() if name != question}).encode()


def one(data: bytes) -> None:
    """Run one script."""
    scripts.one("oci", data)
