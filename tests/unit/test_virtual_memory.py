"""Extra memory of virtual products: reused, not kept."""

import copy
import ctypes
import gc
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import memory
import pytest
import torch
from models import TRANSFORMERS, bits, input_for, train
from torch import nn
from torch.nn import functional as F  # noqa: N812

import lottapack
from lottapack import rng
from lottapack.products import adapted
from lottapack.products import scratch as scratches
from lottapack.products.adapted import generated_adapted_product
from lottapack.products.convolution import generated_convolution, generated_convolution_gradient
from lottapack.products.op import generated_product
from lottapack.products.scratch import IDLE, scratch
from lottapack.products.weight_key import weight_key

CPU = torch.device("cpu")
SEED, NAME = 7, "layers.0.weight"
QUICK = ("test_schema", "test_faketensor", "test_autograd_registration")
"""The checks of torch.library.opcheck() that compile nothing."""


def named(shape, table="sign1", dtype="float32"):
    return None, weight_key(rng.Source(SEED, NAME, rng.builtin(table), rng.binary32(0.3), dtype), shape)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def resident():
    """Return this process's resident bytes, without pages of files, which the kernel drops and reads as it likes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssShmem")))


@pytest.fixture
def idle(monkeypatch):
    """The mappings that lie idle: none at first."""
    found = type(scratches._idle)(maxlen=IDLE)
    monkeypatch.setattr(scratches, "_idle", found)
    return found


def test_memory_is_used_again(idle):
    with scratch(100, torch.float32, CPU) as one:
        place = one.data_ptr()
        assert (one.shape, one.dtype, place % 64) == ((100,), torch.float32, 0)
        assert not idle
    with scratch(50, torch.bfloat16, CPU) as two:
        assert (two.shape, two.dtype, two.data_ptr()) == ((50,), torch.bfloat16, place)


def test_a_mapping_that_is_too_small_is_given_up(idle):
    with scratch(10, torch.float32, CPU):
        pass
    size = len(idle[0])
    with scratch(size, torch.float32, CPU) as large:
        large.fill_(1)
    assert [len(one) for one in idle] == [4 * size]


def test_memory_is_nobody_elses_meanwhile_and_few_mappings_are_kept(idle):
    with (
        scratch(9, torch.float32, CPU) as one,
        scratch(9, torch.float32, CPU) as two,
        scratch(9, one.dtype, CPU) as six,
    ):
        one.fill_(1)
        two.fill_(2)
        six.fill_(6)
        assert (one.unique().item(), two.unique().item(), six.unique().item()) == (1, 2, 6)
    assert len(idle) == IDLE < 3


def test_memory_comes_back_after_an_error(idle):
    with pytest.raises(KeyError), scratch(10, torch.float32, CPU):
        raise KeyError
    assert len(idle) == 1


def test_a_product_that_fails_gives_its_memory_back(idle, monkeypatch):
    def fail(*_):
        raise KeyError("no weights")

    monkeypatch.setattr("lottapack.products.product.rng.fill_", fail)
    with pytest.raises(KeyError, match="no weights"):
        generated_product(drawn(40, 30).double(), *named((20, 30)), False, 0)
    assert len(idle) == 2  # one as recorded, one as converted


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("recorded", ["float32", "bfloat16"])
def test_a_product_takes_nothing_of_the_heap_but_its_result(transposed, recorded):
    x = drawn(40, 512)
    generated_product(x, *named((512, 512), "normal16", recorded), transposed, 0)  # asks for known answers, once
    y, most = memory.peak(lambda: generated_product(x, *named((512, 512), "normal16", recorded), transposed, 0))
    assert y.nbytes <= most < y.nbytes + 10_000


def test_a_convolution_takes_nothing_of_the_heap_but_its_result_and_a_part_of_it():
    x, shape = drawn(4, 64, 200), (512, 64, 3)
    rest = (1,), (1,), (1,), 1
    y, most = memory.peak(lambda: generated_convolution(x, *named(shape, "normal16"), *rest, 64 * 3 * 4 * 64))
    assert most < 1.5 * y.nbytes  # parts that are put together in the end would take twice as much
    back = generated_convolution_gradient(y, x.shape, *named(shape, "normal16"), *rest, 64 * 3 * 4 * 64)
    weight = lottapack.draw(NAME, shape, seed=SEED, distribution="normal16", scale=rng.binary32(0.3), dtype=x.dtype)
    assert torch.allclose(y, F.conv1d(x, weight, padding=1), rtol=1e-4, atol=1e-3)
    assert torch.allclose(back, F.conv_transpose1d(y, weight, padding=1), rtol=1e-4, atol=1e-1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what is in memory")
def test_a_large_result_goes_back_to_the_system():
    """It is in a mapping of its own, and so are its views and what a backward pass has kept."""
    x = torch.ones(1 << 13, 40, requires_grad=True)
    generated_product(x[:600], *named((1 << 11, 40)), False, 0).sum().backward()  # loads, or compiles, the kernels
    gc.collect()  # what other tests left must not be freed while this one looks
    before = resident()
    y = generated_product(x, *named((1 << 11, 40)), False, 0)  # 64 MiB
    assert resident() - before >= y.nbytes
    kept = y[5:, 3:].sin()  # keeps what it was made from
    view, shape = y.detach()[:, 1], y.shape
    del y
    kept.sum().backward()
    assert x.grad.shape == x.shape
    assert torch.equal(view, generated_product(x.detach(), *named((1 << 11, 40)), False, 0)[:, 1])
    assert resident() - before >= 4 * shape.numel()
    del view, kept
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:  # torch's own results: another library in the process may have told malloc to keep them
        trim(0)
    assert resident() - before < shape.numel()


def test_large_results_are_tensors_like_others():
    x = drawn(64, 300)
    y = generated_product(x, *named((1 << 13, 300)), False, 0)
    assert y.nbytes > scratches.LARGE
    part = generated_product(x, *named((1 << 10, 300)), False, 0)
    assert part.nbytes < scratches.LARGE
    assert torch.allclose(y[:, : 1 << 10], part, rtol=1e-4, atol=1e-3)
    assert torch.equal(copy.deepcopy(y), y)
    assert torch.equal(pickle.loads(pickle.dumps(y)), y)
    back = generated_product(drawn(1 << 13, 40), *named((40, 300)), True, 40 * 300)
    weight = lottapack.draw(NAME, (40, 300), seed=SEED, distribution="sign1", scale=rng.binary32(0.3))
    assert back.nbytes > scratches.LARGE
    assert torch.allclose(back, drawn(1 << 13, 40) @ weight, rtol=1e-4, atol=1e-3)


def adapter(d_out, d_in, rank=3):
    return drawn(rank, d_in, seed=1), drawn(d_out, rank, seed=2), torch.tensor([0.75])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("beta", [True, False])
@pytest.mark.parametrize("batch", [(), (2,), (3, 30)], ids=str)
def test_an_adapted_product_is_the_sum_of_its_parts(transposed, beta, batch):
    a, b, factor = adapter(50, 40)
    shape = (40, 50) if transposed else (50, 40)
    w = lottapack.draw(NAME, shape, seed=SEED, distribution="sign1", scale=0.3)
    w, x = (w.t() if transposed else w).double(), drawn(*batch, 40)
    y = generated_adapted_product(x, a, b, factor if beta else None, 0.5, *named(shape), transposed, 0)
    due = (0.75 if beta else 1) * (x.double() @ w.t()) + 0.5 * (x.double() @ a.double().t()) @ b.double().t()
    assert y.shape == (*batch, 50)
    assert torch.allclose(y.double(), due, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("beta", [True, False])
def test_an_adapted_product_is_an_operator_that_torch_can_differentiate_twice(transposed, beta):
    shape = (5, 4) if transposed else (4, 5)
    given = [one.double().requires_grad_() for one in (drawn(2, 3, 5), *adapter(4, 5)[: 3 if beta else 2])]
    given += [] if beta else [None]

    def function(*parts):
        return generated_adapted_product(*parts, 0.5, *named(shape), transposed, 0)

    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)
    torch.library.opcheck(generated_adapted_product, (*given, 0.5, *named(shape), transposed, 0), test_utils=QUICK)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (1, 2)])
def test_gradients_are_made_for_what_wants_them(wanted, monkeypatch):
    given, made = [drawn(20, 40), *adapter(50, 40)], []
    full = torch.autograd.grad(
        generated_adapted_product(*[one.requires_grad_() for one in given], 0.5, *named((50, 40)), False, 0).sum(),
        given,
    )
    given = [one.detach().requires_grad_(place in wanted) for place, one in enumerate(given)]
    y = generated_adapted_product(*given, 0.5, *named((50, 40)), False, 0).sum()
    generate = generated_product
    monkeypatch.setattr(adapted, "generated_product", lambda *rest: made.append(1) or generate(*rest))
    found = torch.autograd.grad(y, [given[place] for place in wanted])
    assert [bits(one) for one in found] == [bits(full[place]) for place in wanted]
    assert len(made) == (1 if {0, 3} & set(wanted) else 0)  # the backbone is generated for x and beta alone


def adapted_layer(size=512, **options):
    options = {"seed": SEED, "rank": 4, "targets": ["0"], "distribution": "sign1", "backbone": "virtual", **options}
    model = lottapack.scaffold(nn.Sequential(nn.Linear(size, size, bias=False)), **options)
    nn.init.normal_(model[0].lora_B, std=0.02, generator=torch.Generator().manual_seed(3))
    return model


def test_an_adapted_layer_keeps_its_input_and_makes_its_output_and_no_more():
    model, x = adapted_layer(), drawn(300, 512).requires_grad_()
    y, most = memory.peak(lambda: model(x))
    assert y.nbytes <= most < 1.05 * y.nbytes
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(x)
    own = {x.data_ptr(), *(p.data_ptr() for p in model.parameters())}
    assert {t.data_ptr() for t in kept} == own
    gradient = torch.ones_like(y)
    _, most = memory.peak(lambda: y.backward(gradient))
    assert most < 1.1 * x.nbytes


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_dropout_leaves_the_parts_apart(name):
    """The same random numbers drop the same values as with a materialised backbone."""
    given, found = input_for(name), []
    for backbone in ("materialised", "virtual"):
        torch.manual_seed(0)
        options = {"seed": 7, "rank": 2, "distribution": "sign1", "dropout": 0.5, "backbone": backbone}
        model = train(lottapack.scaffold(TRANSFORMERS[name](), **options)).train()
        for one in model.modules():
            if isinstance(one, nn.Dropout):
                one.p = 0.0
        torch.manual_seed(1)
        found.append(model(given).logits)
        assert not torch.equal(model(given).logits, found[-1])
    assert torch.allclose(*found, rtol=1e-4, atol=1e-4)


def step(model, x):
    """Bits of a result and of all gradients."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    return bits(y), bits(x.grad), [bits(p.grad) for p in model.parameters() if p.grad is not None]


def test_models_that_compute_at_once_do_not_disturb_each_other():
    blocks = {"distribution": "normal16", "backbone": "blocks"}
    models = [adapted_layer(256, seed=seed, **(blocks if seed % 2 else {})) for seed in range(4)]
    inputs = [drawn(64, 256, seed=seed) for seed in range(4)]
    due = [step(model, x) for model, x in zip(models, inputs, strict=True)]
    start = threading.Barrier(4)

    def work(place):
        start.wait(60)
        return [step(models[place], inputs[place]) for _ in range(8)]

    with ThreadPoolExecutor(4) as pool:
        for place, found in enumerate(pool.map(work, range(4))):
            assert found == [due[place]] * 8


def test_a_backward_pass_may_run_in_another_thread():
    model, x = adapted_layer(256), drawn(64, 256)
    due = step(model, x)
    model.zero_grad()
    given = x.clone().requires_grad_()
    loss = model(given).square().sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join(60)
    assert (bits(given.grad), [bits(p.grad) for p in model.parameters() if p.grad is not None]) == due[1:]


def test_a_copy_has_memory_of_its_own():
    model, x = adapted_layer(64), drawn(20, 64)
    assert step(copy.deepcopy(model), x) == step(model, x)


FORKED = """
import os, sys
import torch
import lottapack
from lottapack.products import scratch as scratches
from lottapack.products.scratch import scratch

torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(300, 300))
lottapack.scaffold(model, seed=1, rank=2, targets=["0"], distribution="normal16", backbone="blocks")
x = torch.linspace(-1, 1, 40 * 300).view(40, 300)
with torch.no_grad():
    due = model(x)
    assert len(scratches._idle) == 1
    with scratch(100, torch.float32, x.device) as held:
        held.fill_(5)
        child = os.fork()
        if child == 0:
            held.fill_(6)
            os._exit(0 if torch.equal(model(x), due) else 1)
        _, status = os.waitpid(child, 0)
        assert held.eq(5).all(), "the child wrote into the parent's memory"
    assert torch.equal(model(x), due)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_memory_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
