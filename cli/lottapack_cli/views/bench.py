"""What bench measured, as one table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lottapack.speed import SpeedReport
from lottapack_cli.render import heading, table

if TYPE_CHECKING:
    from rich.console import RenderableType


def view(report: SpeedReport) -> "Iterator[RenderableType]":
    """A row for each case and dtype; the last columns are how many times as fast it is as others."""
    yield table(
        ["case", "dtype", ">10⁹ weights/s", ">of fill_", ">of randn", ">of clone", ">of download"],
        (
            [
                speed.case,
                speed.dtype,
                f"{speed.weights_per_s / 1e9:.3g}",
                *(f"{each:.3g}" for each in (speed.of_fill, speed.of_randn, speed.of_clone, speed.of_download)),
            ]
            for speed in report.speeds
        ),
    )
    yield heading(f"{report.elements:,} weights, median of {report.rounds} rounds", report.device)
    yield report.machine
