"""A study: full training, the curve, and the answer."""

from collections.abc import Iterator

from lottapack.studying import Study
from lottapack_cli.render import Part, facts, table


def view(study: Study) -> Iterator[Part]:
    """Yield the answer, then a table of all ranks."""
    answer = "none of these" if study.rank is None else str(study.rank)
    yield facts(
        [
            ("full training", f"{study.full.text()} ({len(study.full.scores)} seeds)"),
            ("target", f"{study.target:.4g}, within {study.tolerance:g}"),
            ("smallest rank", answer),
        ]
    )
    points = [(f"{p.rank}", p) for p in study.curve] + [(f"plain LoRA, {p.rank}", p) for p in study.lora]
    yield table(
        [">rank", ">score", ">seeds", ">trained", ">of the model", ">seconds"],
        (
            [label, p.text(), str(len(p.scores)), f"{p.trained:,}", f"{p.trained / p.total:.2%}", f"{p.seconds:.1f}"]
            for label, p in points
        ),
    )
