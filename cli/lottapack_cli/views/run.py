"""The tokens or outputs of a model."""

from collections.abc import Iterator
from typing import Any

from lottapack.limits import size_text
from lottapack.running import RunResult
from lottapack_cli.render import Part, duration, heading


def view(result: RunResult) -> Iterator[Part]:
    """Yield the prompt and the text or tokens, or the outputs' shapes and small outputs; then time and memory."""
    if result.outputs is None:
        yield heading("prompt", result.prompt)
        yield result.text or " ".join(map(str, result.tokens))
        took = f"{len(result.tokens)} tokens in {duration(result.seconds)}: {result.tokens_per_s:.3g} a second"
    else:
        for name, shape in result.outputs.items():
            yield f"{name}  {' x '.join(map(str, shape))}"
            if name in (result.values or {}):
                yield f"  {_short((result.values or {})[name])}"
        took = f"computed in {duration(result.seconds)}"
    yield heading(took, f"loaded in {duration(result.load_seconds)}, backbone {result.backbone}")
    if result.peak_bytes:
        yield f"largest size of the process: {size_text(result.peak_bytes)}"
    if result.output is not None:
        yield f"wrote {result.output}"


def _short(value: Any) -> str:
    """Return nested lists of numbers as text, each with six digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
