"""Arguments that are True or False."""

import reprlib

from lottapack.errors import UnsupportedError


def require_flags(**flags: object) -> None:
    """Raise UnsupportedError for an argument that is neither True nor False: the text ``"no"`` would count as True."""
    for name, value in flags.items():
        if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):  # as NumPy calls its own
            raise UnsupportedError(
                f"{name}={reprlib.repr(value)} is neither True nor False", hint=f"Pass `{name}=True`, or leave it out."
            )
