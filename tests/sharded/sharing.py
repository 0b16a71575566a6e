"""Helpers of the cases: registering them, comparing models, refusing collectives."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from extent import extent
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import lottapack

WORLD = int(sys.argv[2])
CASES: dict[str, Callable[[Path, int], None]] = {}
COLLECTIVES = ("all_gather_into_tensor", "all_gather", "broadcast", "scatter", "all_reduce", "send", "recv", "barrier")


def case(*worlds: int) -> Callable[[Callable[[Path, int], None]], Callable[[Path, int], None]]:
    """Register a case for worlds of these sizes; `make test` runs it in the first of them."""

    def keep(function: Callable[[Path, int], None]) -> Callable[[Path, int], None]:
        if WORLD in extent(worlds[:1], worlds):
            CASES[function.__name__] = function
        return function

    return keep


@contextmanager
def no_communication() -> Iterator[None]:
    """Fail on any collective: those that DTensor dispatches are counted, those of torch.distributed raise."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("communication")

    kept = {name: getattr(dist, name) for name in COLLECTIVES}
    for name in COLLECTIVES:
        setattr(dist, name, refuse)
    try:
        with CommDebugMode() as mode:
            yield
        assert mode.get_total_counts() == 0, mode.get_comm_counts()
    finally:
        for name, function in kept.items():
            setattr(dist, name, function)


def named(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])


def same(one: Tensor, other: Tensor) -> bool:
    one, other = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return one.shape == other.shape and torch.equal(one, other)


def compare(model: nn.Module, whole: nn.Module, *, distributed: bool = True) -> int:
    """Compare every tensor of a sharded model with that of one process; return the number of distributed ones."""
    found, expected, count = named(model), named(whole), 0
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, tensor in found.items():
        assert not tensor.is_meta, name
        if isinstance(tensor, DTensor):
            count += 1
            cut = distribute_tensor(expected[name].detach(), tensor.device_mesh, tensor.placements, src_data_rank=None)
            assert same(tensor.to_local(), cut.to_local()), (name, tensor.placements)
            assert same(tensor.full_tensor(), expected[name]), (name, tensor.placements)
        else:
            assert same(tensor, expected[name]), name
    assert bool(count) == distributed
    return count


def loaded(pack: Path, mesh: object, placements: object, **options: object) -> nn.Module:
    with no_communication():
        model = lottapack.distributed.load(pack, mesh=mesh, placements=placements, **options)
    compare(model, lottapack.load(pack, **options))
    return model


def last(name: str, shape: tuple[int, ...]) -> Shard | Replicate:
    return Shard(len(shape) - 1) if shape else Replicate()


def line() -> object:
    return init_device_mesh("cpu", (WORLD,))


def refused(error: type[Exception], message: str, call: Callable[[], object]) -> None:
    try:
        call()
    except error as fault:
        assert message in str(fault), str(fault)
    else:
        raise AssertionError(f"not refused: {message}")
