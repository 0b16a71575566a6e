import pytest
import torch

import lottapack
from lottapack import rng
from lottapack.reports import speed


def test_every_distribution_and_dtype_is_measured():
    told = []
    report = speed.bench(elements=3000, rounds=3, progress=lambda done, total: told.append((done, total)))
    cases = {(one.case, one.dtype) for one in report.speeds}
    others = ("fill_", "torch.randn", "clone", "download")
    assert cases == {(c, d) for c in (*others, *rng.BUILTIN) for d in ("float32", "bfloat16", "float16")}
    assert (report.device, report.elements, report.rounds) == ("cpu", 3000, 3)
    assert f"torch {torch.__version__}" in report.machine
    assert told == [(done, 120) for done in range(1, 121)]


def test_each_is_compared_with_its_own_dtype():
    speeds = {(one.case, one.dtype): one for one in speed.bench(elements=3000, rounds=1).speeds}
    for (case, dtype), one in speeds.items():
        beside = {
            "of_fill": speeds["fill_", dtype],
            "of_randn": speeds["torch.randn", dtype],
            "of_clone": speeds["clone", dtype],
            "of_download": speeds["download", dtype],
        }
        for field, other in beside.items():
            assert getattr(one, field) == pytest.approx(one.weights_per_s / other.weights_per_s), (case, dtype, field)
    assert speeds["download", "float32"].weights_per_s == pytest.approx(125e6 / 4)
    assert speeds["download", "bfloat16"].weights_per_s == pytest.approx(125e6 / 2)


def test_cases_take_turns_and_the_first_is_not_counted():
    turns = []
    cases = {name: (1, lambda name=name: turns.append(name)) for name in ("a", "b")}
    seconds = speed.measure(cases, 2)
    assert turns == ["a", "b"] * 3
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}
    assert speed.ratio([1.0, 2.0, 4.0], [3.0, 4.0, 4.0]) == 2.0


@pytest.mark.parametrize("arguments", [{"elements": 0}, {"rounds": 0}, {"device": "nothing"}])
def test_what_cannot_be_measured_is_refused(arguments):
    with pytest.raises(lottapack.errors.UnsupportedError):
        speed.bench(**arguments)


def test_weights_that_fit_no_memory_are_refused():
    with pytest.raises(lottapack.errors.LimitError, match="free on cpu"):
        speed.bench(elements=2**60)
