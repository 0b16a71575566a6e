"""merged() against the page of the spec, one scalar at a time."""

import numpy as np
import pytest
import torch
from memory import peak
from models import bits

from lottapack.format.recipe import scaling_factor
from lottapack.weights import merge

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def by_hand(weight, lora_a, lora_b, beta, scaling, fan_in_fan_out):
    """Spec: merge, step 3. Every operation is one of NumPy's binary32 scalars."""
    w, a, b = (tensor.float().numpy() for tensor in (weight.reshape(weight.shape[0], -1), lora_a, lora_b))
    w = w.T if fan_in_fan_out else w
    one, s = np.float32(1) if beta is None else beta.float().numpy()[0], np.float32(scaling)
    result = np.empty_like(w)
    with np.errstate(over="ignore"):
        for o in range(w.shape[0]):
            for n in range(w.shape[1]):
                d = b[o, 0] * a[0, n]
                for r in range(1, a.shape[0]):
                    d = d + b[o, r] * a[r, n]
                result[o, n] = one * w[o, n] + s * d
    result = result.T if fan_in_fan_out else result
    return torch.from_numpy(result.copy()).to(weight.dtype).reshape(weight.shape)


def case(shape, rank, dtype, fan_in_fan_out=False, beta=True):
    d_out, d_in = (shape[1], shape[0]) if fan_in_fan_out else (shape[0], int(np.prod(shape[1:])))
    generator = torch.Generator().manual_seed(rank)
    tensors = [torch.randn(size, generator=generator).to(dtype) for size in (shape, (rank, d_in), (d_out, rank), (1,))]
    if not beta:
        tensors[3] = None
    return *tensors, scaling_factor(5.0, rank, "rslora"), fan_in_fan_out


def both(weight, a, b, beta, scaling, fan_in_fan_out):
    found = merge.merged(weight, a, b, beta, scaling=scaling, fan_in_fan_out=fan_in_fan_out)
    return bits(found), bits(by_hand(weight, a, b, beta, scaling, fan_in_fan_out))


@pytest.mark.parametrize("beta", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "rank", "fan"),
    [((7, 5), 1, False), ((7, 5), 4, True), ((6, 3, 5), 3, False), ((4, 2, 3, 3), 2, False), ((1, 1), 1, False)],
)
def test_merge_equals_the_scalar_loop(shape, rank, fan, dtype, beta):
    found, expected = both(*case(shape, rank, dtype, fan, beta))
    assert found == expected


@pytest.mark.parametrize("chunk", [1, 9, 10, 11, 29, 30, 10**6])
@pytest.mark.parametrize("fan", [False, True])
def test_borders_of_chunks_change_nothing(chunk, fan, monkeypatch):
    monkeypatch.setattr(merge, "_CHUNK", chunk)
    found, expected = both(*case((6, 10), 3, torch.float32, fan))
    assert found == expected


@pytest.mark.parametrize("chunk", [1, 9, 10, 29, 10**6])
@pytest.mark.parametrize("fan", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("magnitude", [True, False])
def test_in_place_and_in_pieces_the_bits_are_the_same(chunk, fan, dtype, magnitude, monkeypatch):
    """With lengths too, whose squares are summed in the order of the inputs, whatever is a piece."""
    weight, a, b, beta, scaling, _ = case((6, 10), 3, dtype, fan)
    lengths = torch.linspace(0.1, 3, len(b)).to(dtype) if magnitude else None
    expected = bits(merge.merged(weight, a, b, beta, lengths, scaling=scaling, fan_in_fan_out=fan))
    for name in ("_CHUNK", "_CHUNK_LENGTHS"):
        monkeypatch.setattr(merge, name, chunk)
    wide = torch.empty(weight.shape, dtype=torch.float64)
    for out in (weight, wide):
        read = (weight.clone() if out is wide else weight).view(-1)
        merge.merge_into(
            out, lambda i, j, read=read: read[i:j], a, b, beta, lengths, scaling=scaling, fan_in_fan_out=fan
        )
        if out is weight:
            weight = case((6, 10), 3, dtype, fan)[0]
        assert bits(out.to(dtype)) == expected
    assert torch.equal(wide, wide.to(dtype).double())  # rounded to the recorded dtype first


@pytest.mark.parametrize("fan", [False, True])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize(("magnitude", "most"), [(False, 2_500_000), (True, 18_000_000)])
def test_merging_in_place_takes_some_memory_and_no_second_weight(magnitude, most, fan, dtype):
    weight, a, b, beta, scaling, _ = case((3000, 4000), 2, dtype, fan)
    lengths = torch.ones(len(b)).to(dtype) if magnitude else None
    flat = weight.view(-1)
    options = {"scaling": scaling, "fan_in_fan_out": fan}
    _, taken = peak(lambda: merge.merge_into(weight, lambda i, j: flat[i:j], a, b, beta, lengths, **options))
    assert 0 < taken <= most < weight.nbytes


def test_infinities_not_numbers_and_subnormals_are_kept():
    weight = torch.tensor([[3e38, 1e-45, float("inf"), -0.0]])
    one = torch.ones(1, 4), torch.zeros(1, 1)
    found = merge.merged(weight, *one, torch.tensor([2.0]), scaling=1.0, fan_in_fan_out=False)
    assert found.tolist() == [[float("inf"), 2.802596928649634e-45, float("inf"), 0.0]]
    lost = merge.merged(weight, *one, torch.tensor([0.0]), scaling=1.0, fan_in_fan_out=False)
    assert torch.isnan(lost[0, 2])


def test_other_orders_round_otherwise():
    """A matrix product does not give these bits, so the tests above can fail."""
    weight, a, b, beta, scaling, _ = case((40, 40), 16, torch.float32)
    found = merge.merged(weight, a, b, beta, scaling=scaling, fan_in_fan_out=False)
    assert bits(found) != bits(beta.double() * weight.double() + scaling * (b.double() @ a.double()))
    assert bits(found) != bits((beta.double() * weight.double() + scaling * (b.double() @ a.double())).float())


def test_an_overflowing_scaling_is_an_infinity():
    assert scaling_factor(1e300, 1, "lora") == float("inf")
    assert scaling_factor(1.0, 3, "lora") == np.float32(1 / 3)


@pytest.mark.parametrize("fan", [False, True])
def test_a_row_of_length_zero_stays_zero_and_trains_on(fan):
    weight = torch.randn(3, 4)
    weight[1] = 0
    lora_a, lora_b = torch.randn(2, 4), torch.randn(3, 2)
    lora_b[1] = 0
    magnitude = torch.ones(3, requires_grad=True)
    stored = weight.t().contiguous() if fan else weight
    made = merge.combined(stored, lora_a, lora_b, None, magnitude, scaling=1.0, fan_in_fan_out=fan)
    made.square().sum().backward()
    rows = made.t() if fan else made
    assert not rows[1].any()
    assert torch.equal(magnitude.grad != 0, torch.tensor([True, False, True]))
    exact = merge.merged(stored, lora_a, lora_b, None, magnitude, scaling=1.0, fan_in_fan_out=fan)
    assert torch.allclose(made, exact, atol=1e-6)


@pytest.mark.parametrize("magnitude", [1.0, -2.0, float("inf"), float("nan")])
def test_a_row_of_zeros_stays_one_under_any_magnitude(magnitude):
    given = torch.tensor([magnitude, 3.0], requires_grad=True)
    found = merge.over_lengths(given, torch.tensor([0.0, 2.0]))
    assert found.tolist() == [0.0, 1.5]
    found.sum().backward()
    assert given.grad.tolist() == [0.0, 0.5]
