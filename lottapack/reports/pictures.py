"""Pictures by matplotlib, as PNG or SVG. The same content gives the same bytes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lottapack.errors import OutputError
from lottapack.extras import require
from lottapack.files.output import atomic_file

INK: Final = "#24292f"
"""The colour of text."""

_FORMATS: Final = (".png", ".svg")


@contextmanager
def picture(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """Yield axes of a figure of ``size`` inches to draw on, and write the file afterwards.

    Raises OutputError for another ending, UnsupportedError if matplotlib is not installed.
    """
    kind = path.suffix.lower()
    if kind not in _FORMATS:
        raise OutputError(f"{path}: unknown image format", hint=f"Name a file that ends in {' or '.join(_FORMATS)}.")
    matplotlib = require("matplotlib", "plot", "a picture")
    figure_class = require("matplotlib.figure", "plot", "a picture").Figure
    # Text in the SVG stays text, and nothing in the file depends on the time.
    look = {"svg.fonttype": "none", "svg.hashsalt": "lottapack", "font.size": 10}
    with matplotlib.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a character that the font lacks is drawn as a box
        figure = figure_class(figsize=size, layout="constrained")
        yield figure.subplots()
        with atomic_file(path) as file:
            metadata = {"Date": None} if kind == ".svg" else {"Software": None}
            figure.savefig(file, format=kind[1:], dpi=160, metadata=metadata)
