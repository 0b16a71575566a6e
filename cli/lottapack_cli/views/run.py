"""What a model wrote or computed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lottapack.limits import size_text
from lottapack.running import RunResult
from lottapack_cli.render import duration, heading

if TYPE_CHECKING:
    from rich.console import RenderableType


def view(result: RunResult) -> "Iterator[RenderableType]":
    """The text or the tokens, or the outputs' shapes; then what it took."""
    if result.outputs is None:
        yield result.text or " ".join(map(str, result.tokens))
        took = f"{len(result.tokens)} tokens in {duration(result.seconds)}: {result.tokens_per_s:.3g} a second"
    else:
        yield from (f"{name}  {' x '.join(map(str, shape))}" for name, shape in result.outputs.items())
        took = f"computed in {duration(result.seconds)}"
    yield heading(took, f"loaded in {duration(result.load_seconds)}, backbone {result.backbone}")
    if result.peak_bytes:
        yield f"largest size of the process: {size_text(result.peak_bytes)}"
    if result.output is not None:
        yield f"wrote {result.output}"
