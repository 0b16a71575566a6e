"""table(): quantile functions of SciPy as tables, and rules for the scale."""

import math

import numpy as np
import pytest
import torch
from models import all_bits, bits, mlp, train
from scipy import stats
from torch import nn

import lottapack
from lottapack import rng
from lottapack.errors import ScaffoldError, UnsupportedError
from lottapack.nn import recipe_of


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mixture(probabilities):
    """Of two normal distributions, a narrow one and a wide one in three to one, by bisection."""
    low, high = np.full_like(probabilities, -40.0), np.full_like(probabilities, 40.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = 0.75 * stats.norm.cdf(middle, scale=0.5) + 0.25 * stats.norm.cdf(middle, scale=2)
        low, high = np.where(below < probabilities, middle, low), np.where(below < probabilities, high, middle)
    return (low + high) / 2


def sparse(probabilities):
    """Nine in ten are zero, the others normal."""
    tails = np.where(probabilities < 0.5, probabilities, 1 - probabilities)
    found = stats.norm.ppf(np.minimum(tails * 10, 0.5))
    return np.where(probabilities < 0.5, found, -found)


PPF = {
    "normal": stats.norm.ppf,
    "laplace": stats.laplace.ppf,
    "cauchy": stats.cauchy.ppf,
    "student_t": stats.t(4).ppf,
    "mixture": mixture,
    "sparse": sparse,
    "beta": lambda p: stats.beta(2, 3).ppf(p) - 0.4,
    "exponential": lambda p: stats.expon.ppf(p) - 1,
    "truncated_normal": stats.truncnorm(-2, 2).ppf,
    "uniform": stats.uniform(-1, 2).ppf,
}
CDF = {
    "normal": stats.norm.cdf,
    "laplace": stats.laplace.cdf,
    "cauchy": stats.cauchy.cdf,
    "student_t": stats.t(4).cdf,
    "mixture": lambda x: 0.75 * stats.norm.cdf(x, scale=0.5) + 0.25 * stats.norm.cdf(x, scale=2),
    "beta": lambda x: stats.beta(2, 3).cdf(x + 0.4),
    "exponential": lambda x: stats.expon.cdf(x + 1),
    "truncated_normal": stats.truncnorm(-2, 2).cdf,
    "uniform": stats.uniform(-1, 2).cdf,
}


@pytest.mark.parametrize("bits_", [16, 8, 4, 2, 1])
@pytest.mark.parametrize("name", PPF)
def test_entries_are_the_quantiles_rounded_once(name, bits_):
    table = lottapack.table(PPF[name], bits_)
    due = PPF[name]((np.arange(2**bits_) + 0.5) / 2**bits_).astype(np.float32)
    assert table.bits == bits_
    assert (table.values == due).all()
    assert rng.table_fault(table.values) is None


@pytest.mark.parametrize("name", CDF)
def test_sixteen_bits_follow_the_distribution(name):
    """Each entry's distribution function is the middle of its step, so no point is further off than 2**-17."""
    values = lottapack.table(PPF[name]).values.astype(np.float64)
    steps = (np.arange(2**16) + 0.5) / 2**16
    assert np.abs(CDF[name](values) - steps).max() < 2.0**-20  # of binary32's own rounding


@pytest.mark.parametrize("name", CDF)
def test_drawn_weights_follow_the_distribution(name):
    """One-sample Kolmogorov-Smirnov: 40,000 weights of a fixed seed; the 1e-6 critical value is 2.69 / sqrt(n)."""
    weights = (
        lottapack.draw(f"{name}.weight", 40_000, seed=11, distribution=lottapack.table(PPF[name])).double().numpy()
    )
    assert stats.kstest(weights, CDF[name]).statistic < 2.69 / math.sqrt(40_000)


def test_a_sparse_table_draws_zeros():
    table = lottapack.table(sparse)
    assert abs(float((table.values == 0).mean()) - 0.9) < 1e-3
    weights = lottapack.draw("w", 100_000, seed=1, distribution=table)
    assert abs(float((weights == 0).double().mean()) - 0.9) < 0.005
    assert not bool(torch.signbit(weights[weights == 0]).any())


def test_two_values_are_the_binary_scaffold():
    table = lottapack.table(lambda p: np.where(p < 0.5, -1, 1), bits=1)
    assert table.values.tolist() == rng.builtin("sign1").values.tolist()
    model = lottapack.scaffold(nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 2)), seed=1, distribution=table)
    assert set(model[0].weight.unique().tolist()) == {-0.125, 0.125}


@pytest.mark.parametrize("name", [name for name in PPF if name != "cauchy"])
@pytest.mark.parametrize(("rule", "due"), [(None, 1 / 300), ("kaiming", 2 / 300), ("xavier", 2 / 500)])
def test_any_table_is_scaled_to_the_deviation_of_the_rule(name, rule, due):
    model = nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 2))
    lottapack.scaffold(model, seed=1, distribution=lottapack.table(PPF[name]), init=rule)
    assert model[0].weight.square().mean().item() == pytest.approx(due, rel=0.05)


def test_the_scale_of_a_table_is_exact():
    """Of a table whose mean is not zero too: the second moment of its 65,536 values is that of the rule."""
    for ppf in (stats.expon.ppf, stats.cauchy.ppf):
        table = lottapack.table(ppf)
        model = lottapack.scaffold(mlp(), seed=1, rank=2, distribution=table)
        scale = recipe_of(model).parameters["0.weight"].scale
        assert np.square(table.values.astype(np.float64) * scale).mean() == pytest.approx(1 / 16, rel=1e-6)


@pytest.mark.parametrize(("shape", "smaller"), [((200, 200), 200), ((200, 160), 160), ((160, 200), 160)])
def test_the_spectral_radius_is_that_of_the_formula(shape, smaller):
    """The measured radius of a matrix of some hundred rows is within a few per cent of what large ones tend to."""
    d_in, d_out = shape
    model = lottapack.scaffold(
        nn.Sequential(nn.Linear(d_in, d_out), nn.Linear(d_out, 2)), seed=1, init="spectral_radius"
    )
    square = model[0].weight[:smaller, :smaller].double()
    assert torch.linalg.eigvals(square).abs().max().item() == pytest.approx(0.95, rel=0.08)


def test_rules_know_which_side_is_the_input():
    seen = {}

    def rule(d_out, d_in):
        seen[d_out, d_in] = True
        return 0.02

    model = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 5), nn.Flatten(), nn.Linear(5, 4))
    lottapack.scaffold(model, seed=1, rank=2, targets="*", init=rule)
    assert set(seen) == {(7, 6), (5, 6), (4, 5)}
    seen.clear()
    convolution = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten(), nn.Linear(8, 2))
    lottapack.scaffold(convolution, seed=1, rank=2, init=rule)
    assert set(seen) == {(8, 75)}
    assert recipe_of(convolution).parameters["0.weight"].scale == float(np.float32(0.02))
    gpt2 = pytest.importorskip("transformers.pytorch_utils").Conv1D(5, 6)  # stored as (in, out)
    seen.clear()
    from lottapack.nn.scales import Width, scale_and_dtype
    from lottapack.nn.select import entries_of

    scale_and_dtype(entries_of(gpt2, set())[0], rng.builtin("normal16"), Width(rule))
    assert set(seen) == {(5, 6)}


def test_tables_by_pattern_travel_in_one_pack(tmp_path):
    laplace, own = lottapack.table(stats.laplace.ppf, bits=8), lottapack.table(sparse, bits=4, id="sparse4")
    model = lottapack.scaffold(mlp(), seed=3, rank=2, distribution={"0": laplace, "2": own, "*": "sign1"}, targets="*")
    entries = recipe_of(model).parameters
    assert [entries[f"{n}.weight"].distribution for n in "024"] == [laplace.id, "sparse4", "sign1"]
    lottapack.pack(train(model), tmp_path / "a")
    assert lottapack.inspect(tmp_path / "a").tables == {laplace.id: 8, "sparse4": 4}
    loaded = lottapack.load(tmp_path / "a", check_fingerprints=True)
    assert all_bits(loaded) == all_bits(model)
    assert {check.status for check in lottapack.verify(tmp_path / "a").checks} == {"ok"}
    drawn = lottapack.draw("2.weight", (8, 12), seed=3, distribution=own, scale=entries["2.weight"].scale)
    assert bits(loaded[2].backbone) == bits(drawn)


def test_init_backbone_takes_them_too(tmp_path):
    own = lottapack.table(stats.laplace.ppf, bits=4)
    model = lottapack.init_backbone_(mlp(), seed=3, distribution={"0": own, "*": "normal8"}, init="kaiming")
    assert recipe_of(model).parameters["2.weight"].scale == float(np.float32(math.sqrt(2 / 12)))
    lottapack.pack(model.state_dict(), tmp_path / "a")
    assert all_bits(lottapack.load(tmp_path / "a", merge=True))["0.weight"] == all_bits(model)["0.weight"]
    with pytest.raises(ScaffoldError, match="distribution: no layer is called '9'"):
        lottapack.init_backbone_(mlp(), seed=3, distribution={"9": own, "*": "normal8"})


def test_ids_say_which_values_they_are():
    one, other = lottapack.table(stats.laplace.ppf, bits=4), lottapack.table(stats.norm.ppf, bits=4)
    assert one.id == f"table_{one.sha256[:12]}" != other.id
    assert lottapack.table(stats.laplace.ppf, bits=4) == one
    assert lottapack.table(stats.laplace.ppf, 4, id="laplace4").id == "laplace4"


def test_zeros_that_binary32_has_otherwise():
    tiny = np.array([-1.0, -1e-39, -1e-60, -0.0, 0.0, 1e-45, 2.0**-127, 1.0])
    table = lottapack.table(lambda p: np.repeat(tiny, 2), bits=4)
    assert bits(torch.tensor(table.values)) == bits(torch.tensor([-1.0, -1, *[0.0] * 12, 1, 1]))


def at(index, value):
    def ppf(p):
        values = np.linspace(-1, 1, len(p))
        values[index] = value
        return values

    return ppf


@pytest.mark.parametrize(
    ("ppf", "bits_", "said"),
    [
        (at(3, math.nan), 4, r"0\.21875 \(entry 3\) is nan"),
        (at(-1, math.inf), 4, r"\(entry 15\) is inf"),
        (at(0, -math.inf), 4, r"\(entry 0\) is -inf"),
        (at(-1, 1e39), 4, r"\(entry 15\) is 1e\+39, outside the range of binary32"),
        (at(5, -2.0), 4, r"\(entry 5\) is -2\.0, less than the one before"),
        (lambda p: -p, 8, r"\(entry 1\) is -0\.0058"),
        (lambda p: p[:-1], 4, r"returned shape \(15,\) for 16"),
        (lambda p: p[:, None], 4, r"returned shape \(16, 1\) for 16"),
        (lambda p: 0.5, 4, r"returned shape \(\) for 16"),
        (lambda p: ["a"] * 16, 4, "failed on an array of 16"),
        (lambda p: math.log(p), 4, "failed on an array of 16"),
        (lambda p: p + 1j, 4, "failed on an array of 16"),
        (lambda p: None, 4, "nan|returned shape"),
        (stats.norm.ppf, 3, "a table cannot have bits=3"),
        (stats.norm.ppf, 16.0, r"bits=16\.0"),
        (stats.norm.ppf, True, "bits=True"),
    ],
)
def test_what_is_no_quantile_function_is_refused(ppf, bits_, said):
    with pytest.raises(UnsupportedError, match=said):
        lottapack.table(ppf, bits_)


@pytest.mark.parametrize("name", ["normal16", "Laplace", "", "constructor", "a" * 65, "a-b"])
def test_ids_that_no_table_may_have(name):
    with pytest.raises(UnsupportedError, match="cannot be the id"):
        lottapack.table(stats.norm.ppf, 2, id=name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"init": "he"}, r"init='he': unknown rule(.|\n)*kaiming, xavier, spectral_radius"),
        ({"scale": math.nan}, "above 0"),
        ({"scale": "kaiming"}, "Pass a rule for the standard deviation as `init`"),
        ({"init": "xavier", "scale": 1.0}, "`init` and `scale` both set"),
        ({"init": [1.0]}, "a function of"),
        ({"init": lambda d_out, d_in: 0.0}, r"0\.weight: `init` returns the standard deviation 0\.0"),
        ({"init": lambda d_out, d_in: "1"}, "0.weight: `init` returns the standard deviation '1'"),
        ({"init": lambda d_out, d_in: math.nan}, "0.weight: `init` returns the standard deviation nan"),
        ({"init": lambda d_out, d_in: 1e39}, "0.weight: scale inf"),
        ({"distribution": rng.custom("zeros", [0.0, 0.0])}, "'zeros' only contains zeros"),
        ({"distribution": {"0": "normal8"}}, "2 does not match any pattern in distribution"),
        ({"distribution": {"zero": "normal8", "*": "normal8"}}, "distribution: no layer is called 'zero'"),
        (
            {"distribution": {"0": rng.custom("a", [0.0, 1.0]), "*": rng.custom("a", [0.0, 2.0])}},
            "two different tables have the id 'a'",
        ),
    ],
)
def test_scales_and_distributions_that_cannot_be(options, said):
    model = mlp()
    before = all_bits(model)
    with pytest.raises(ScaffoldError, match=said):
        lottapack.scaffold(model, seed=1, rank=2, **options)
    assert all_bits(model) == before


def test_zeros_with_a_scale_are_allowed():
    model = lottapack.scaffold(mlp(), seed=1, rank=2, distribution=rng.custom("zeros", [0.0, 0.0]), scale=np.float32(1))
    assert not model[0].weight.any()
