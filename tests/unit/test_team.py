"""Kernels on the threads of torch's operators."""

import ctypes
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import lottapack
from lottapack import rng
from lottapack.errors import UnsupportedError
from lottapack.products.product import Matrix, product
from lottapack.rng import backends, reference
from lottapack.rng.kernels import declared, team
from lottapack.rng.kernels.kernel import Kernel, Memory
from lottapack.rng.threads import PIECE, pieces

pytestmark = pytest.mark.skipif(
    not backends.numba_works() or not team.available(), reason="torch has no threads of libgomp, or no kernels"
)

SOURCE = rng.Source(7, "w", rng.builtin("sign1"), rng.binary32(0.5), "float32")


def kernel_of(function, parameters="=u32[] =u32[] u64"):
    """A kernel that calls a function with its arguments, as eight bytes each. It returns the function's code."""
    made = Kernel("nowhere", "made", parameters)
    count = made.offset(len(made.parameters))

    @ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    def entry(_result, _exception, arguments):
        return function(*(ctypes.c_uint64 * count).from_address(arguments))

    made._forms[None] = entry
    return made


def test_each_call_runs_once_with_the_memory_of_its_thread():
    out, work = np.zeros(100, np.uint32), np.zeros(3 * 8, np.uint32)
    memory, used = Memory.of(work), []

    def note(address, _size, own, size, number):
        assert size == 8
        ctypes.c_uint32.from_address(address + 4 * number).value += 1
        used.append((own - memory.address) / 32)
        return 0 if number % 2 else -2  # both mean success

    shared = Memory.of(out)
    part = memory.part(0, 8)
    team.run(kernel_of(note), [(shared, part, number) for number in range(100)], 3, (1, memory))
    assert out.tolist() == [1] * 100
    assert set(used) <= {0, 1, 2}


def test_a_call_that_fails_is_an_error_after_all_others_ran():
    ran = []

    def fail(*arguments):
        ran.append(arguments[-1])
        return 1 if arguments[-1] == 3 else 0

    kernel, nothing = kernel_of(fail, "u64"), [(number,) for number in range(6)]
    with pytest.raises(UnsupportedError, match="the kernel made failed"):
        team.run(kernel, nothing, 2)
    assert sorted(ran) == list(range(6))


def test_wrong_arguments_of_one_call_run_none():
    ran = []
    kernel = kernel_of(lambda *arguments: ran.append(arguments) or 0, "u32[] u64")
    numbers = np.zeros(4, np.uint32)
    with pytest.raises(TypeError, match="it takes"):
        team.run(kernel, [(numbers, 1), (numbers.astype(np.uint16), 2)], 2)
    assert not ran


def test_calls_of_two_forms_are_refused():
    """Each form of a kernel takes other bits, and one function runs all calls."""
    given = [(np.zeros(4, kind), 0) for kind in (np.uint32, np.uint16)]
    with pytest.raises(TypeError, match="fingerprint: all calls must be of one form"):
        team.run(declared.FINGERPRINT, given, 2)


def test_results_are_added():
    def add(_address, _size, number):
        return 0

    assert team.run(kernel_of(add, "u32[] u64"), [(np.zeros(1, np.uint32), 1)] * 3, 2) == 0
    bits = np.arange(3 * PIECE, dtype=np.uint32)
    given = [(Memory.of(bits).part(lo, hi), lo) for lo, hi in pieces(0, bits.size)]
    assert team.run(declared.FINGERPRINT, given, 2) == reference.fingerprint(bits.view(np.uint32), 0)


def test_a_team_that_waits_for_one_of_its_threads_rests(monkeypatch):
    monkeypatch.setattr(team, "_rests_until", 0.0)
    monkeypatch.setattr(team, "_SHORTEST", 1000)
    monkeypatch.setattr(team, "_rested", 0.0)
    assert team.is_ready()
    kernel = kernel_of(lambda number: time.sleep(number / 5) or 0, "u64")
    team.run(kernel, [(1,)], 2)  # the other thread finds no call
    assert team.available()
    assert not team.is_ready()


@pytest.mark.parametrize(
    ("first", "end", "rests"), [(1.0, 1.0009, False), (1.0, 1.003, True), (1.5, 2.1, True), (1.6, 2.1, False)]
)
def test_a_team_rests_if_it_waits_for_half_of_its_time(first, end, rests, monkeypatch):
    monkeypatch.setattr(team, "_rests_until", 0.0)
    monkeypatch.setattr(team, "_rested", 0.0)
    team._rest(0.999 if end < 1.1 else 1.0, end, first)
    assert (team._rests_until > 0) == rests


def test_rests_that_do_not_help_become_longer(monkeypatch):
    monkeypatch.setattr(team, "_rests_until", 0.0)
    monkeypatch.setattr(team, "_rested", 0.0)
    now, rests = 5.0, []
    for _ in range(8):
        team._rest(now, now + 0.002, now)
        rests.append(team._rested)
        now = team._rests_until + 0.001  # the team works for a moment, and waits again
    assert rests == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]
    team._rest(now + 1, now + 1.002, now + 1)
    assert team._rested == 0.01


def test_without_torch_there_is_no_team():
    code = """
import sys
from lottapack.rng.kernels import team
assert not team.available() and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


FORKED = """
import os, warnings
import torch
from lottapack import rng
from lottapack.products.product import Matrix, product
from lottapack.rng.kernels import team

torch.set_num_threads(2)
matrix = Matrix(rng.Source(7, "w", rng.builtin("sign1"), 0.5, "float32"), (2048, 1024))
x = torch.ones(16, 1024)
due = product(x, matrix)
assert team.available()
warnings.simplefilter("ignore")  # Python warns of threads in a process that forks
child = os.fork()
if not child:
    fits = not team.available() and torch.equal(product(x, matrix).view(torch.int32), due.view(torch.int32))
    os._exit(0 if fits else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert torch.equal(product(x, matrix), due)
"""


def test_a_forked_process_multiplies_without_the_threads_it_lost():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=300)


BEFORE = """
import multiprocessing, os, warnings
import torch

def fill():
    import lottapack

    tensor = torch.empty(2**19)
    lottapack.rng.fill_(tensor, lottapack.rng.Source(7, "w", lottapack.rng.builtin("sign1"), 0.5, "float32"))
    assert (tensor.numpy() != 0).all()

torch.set_num_threads(2)
warnings.simplefilter("ignore")
square = torch.ones(512, 512)
square @ square  # torch's threads exist
if {multiprocessed}:
    child = multiprocessing.get_context("fork").Process(target=fill)
    child.start()
    child.join()
    assert child.exitcode == 0
else:
    import lottapack

    child = os.fork()
    if not child:
        fill()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize("multiprocessed", [False, True])
def test_a_forked_process_fills_even_if_it_uses_kernels_first(multiprocessed):
    """In the second case, the parent does not even import lottapack."""
    code = BEFORE.format(multiprocessed=multiprocessed)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)


def test_threads_of_the_program_multiply_at_the_same_time():
    matrix, x = Matrix(SOURCE, (2048, 512)), torch.randn(8, 512, generator=torch.Generator().manual_seed(1))
    due = product(x, matrix)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: product(x, matrix), range(40)))
    assert all(torch.equal(one.view(torch.int32), due.view(torch.int32)) for one in found)


def test_a_training_step_has_the_same_bits_with_a_pool(tmp_path, monkeypatch):
    """Forward and backward, with torch's own operators between them."""

    def gradients():
        model = lottapack.scaffold(
            torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 512)),
            seed=3,
            rank=4,
            distribution="sign1",
            backbone="virtual",
        )
        x = torch.randn(40, 512, generator=torch.Generator().manual_seed(2), requires_grad=True)
        model(x).square().sum().backward()
        return x.grad

    monkeypatch.setattr(team, "is_ready", team.available)
    torch.manual_seed(0)
    one = gradients()
    monkeypatch.setattr(team, "is_ready", lambda: False)
    torch.manual_seed(0)
    assert torch.equal(one.view(torch.int32), gradients().view(torch.int32))
