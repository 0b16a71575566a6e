"""The result of pack; with --from-merged, also the findings for each layer."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lottapack.limits import size_text
from lottapack_cli.render import Part, heading, table

if TYPE_CHECKING:
    from lottapack.comparing import Comparison
    from lottapack.packing.pack_result import PackResult
    from lottapack.packing.recovered import Layer
    from lottapack.packing.storing import Kept


def view(result: "PackResult") -> Iterator[Part]:
    """Yield path, size and hash, and a line for each examined layer."""
    if layers := result.layers:
        count = {role: sum(layer.role == role for layer in layers) for role in ("adapted", "seeded", "stored")}
        worst = max((layer.error for layer in layers if layer.error is not None), default=0.0)
        counts = ", ".join(f"{number} {role}" for role, number in count.items() if number)
        yield heading("layers", f"{counts}; largest relative error {worst:.2g}")
        yield table(["name", "role", ">rank", ">beta", ">error", ">bytes stored"], (_row(layer) for layer in layers))
        yield ""
    if result.kept:
        yield heading("kept in another form", "errors relative to each tensor's root mean square")
        columns = ["what", "as", "?>tensors", ">before", ">now", ">bits", ">worst error", "?>mean error", ">rms error"]
        yield table(columns, _kept(result.kept))
        yield ""
    if result.costs:
        yield heading("what each choice costs", "measured on a sample of each group")
        rows = ([one.group, one.form, f"{one.bits:.2f}", size_text(one.size), f"{one.rms:.2g}"] for one in result.costs)
        yield table(["what", "as", ">bits", ">size", ">rms error"], rows)
        yield ""
    if result.left_out:
        yield heading("left out", "of the checkpoint; this is not in the pack")
        yield from (f"  {name}" for name in result.left_out)
        yield ""
    if result.files:
        yield "files  " + ", ".join(f"{name} ({size_text(size)})" for name, size in result.files.items())
    if result.files_left:
        yield f"left beside the checkpoint, not in the pack: {', '.join(result.files_left)}"
    checked: Comparison | None = getattr(result, "checked", None)
    if checked is not None:
        unmerged = "the same bits" if checked.unmerged == 0 else f"at most {checked.unmerged:.2g} apart"
        yield (
            f"outputs are {unmerged}; with adapters merged at most {checked.merged:.2g} apart; the largest is "
            f"{checked.largest:.3g}"
        )
    yield f"packed {result.path}  {size_text(result.size)}"
    yield f"sha256 {result.sha256}"


def _kept(kept: "Sequence[Kept]") -> Iterator[list[str]]:
    """Yield a row for each group and form; the mean error is the mean over the elements."""
    groups: dict[tuple[str, str], list[Kept]] = {}
    for one in kept:
        groups.setdefault((one.group, one.form), []).append(one)
    for (group, form), ones in groups.items():
        before, now = sum(one.size_before for one in ones), sum(one.size for one in ones)
        mean = sum(one.mean * one.size_before for one in ones) / before
        worst = max(one.worst for one in ones)
        rms = max(one.rms for one in ones)
        bits = 8 * now / max(1, sum(one.numel for one in ones))
        shown = [f"{worst:.2g}", f"{mean:.2g}", f"{rms:.2g}"] if worst else ["exact"] * 3
        yield [group, form, str(len(ones)), size_text(before), size_text(now), f"{bits:.2f}", *shown]


def _row(layer: "Layer") -> list[str]:
    return [
        layer.name,
        layer.role,
        "" if layer.rank is None else str(layer.rank),
        "" if layer.beta is None else f"{layer.beta:.4g}",
        "" if layer.error is None else f"{layer.error:.2g}",
        f"{layer.size:,}" if layer.size else "",
    ]
