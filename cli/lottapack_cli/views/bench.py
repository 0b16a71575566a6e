"""The measurements of bench, as one table."""

from collections.abc import Iterator

from lottapack.limits import size_text
from lottapack.reports.speed import SpeedReport
from lottapack.reports.speed_virtual import VirtualReport
from lottapack_cli.render import Part, heading, table


def view(report: SpeedReport) -> Iterator[Part]:
    """Yield a row for each case and dtype; the last columns compare its speed with others."""
    yield table(
        ["case", "dtype", ">10⁹ weights/s", "?>of fill_", "?>of randn", "?>of clone", "?>of download"],
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


def view_products(report: VirtualReport) -> Iterator[Part]:
    """Yield a row for each case and number of inputs."""
    yield table(
        ["weights", ">inputs", ">10⁹ weights/s", "?>of float32", "?>of bfloat16", ">memory of weights"],
        (
            [
                one.case,
                str(one.inputs),
                f"{one.weights_per_s / 1e9:.3g}",
                f"{one.of_float32:.3g}",
                f"{one.of_bfloat16:.3g}",
                size_text(one.weight_bytes),
            ]
            for one in report.products
        ),
    )
    rows, columns = report.shape
    yield heading(f"products with {rows:,} x {columns:,} weights, median of {report.rounds} rounds", report.device)
    yield report.machine
