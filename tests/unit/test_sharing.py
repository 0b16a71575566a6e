"""Tensors that share memory are one parameter, or apart: otherwise a rebuilt model has copies of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import ScaffoldError


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4), nn.BatchNorm1d(4))


def data(net: Any) -> None:
    net[1].weight.data = net[0].weight.data


def transposed(net: Any) -> None:
    net[1].weight.data = net[0].weight.data.t()


def trained(net: Any) -> None:
    net[1].bias.data = net[0].bias.data


def rows(net: Any) -> None:
    net[2].weight.data = net[0].weight.data[4:]


def columns(net: Any) -> None:
    whole = torch.zeros(8, 15)
    net[0].weight.data, net[1].weight.data = whole[:, :8], whole[:, 7:]


def columns_around_another(net: Any) -> None:
    """Of three in a row, the first and the last one overlap."""
    whole = torch.zeros(8, 16)
    net[0].weight.data, net[0].bias.data = whole[:, :8], whole[1, 8:]
    net[1].weight.data = whole.view(-1)[64:].view(8, 8)


def buffer(net: Any) -> None:
    net[3].running_mean = net[2].bias.detach()


@pytest.mark.parametrize("share", [data, transposed, trained, rows, columns, columns_around_another, buffer])
@pytest.mark.parametrize("draw", [lottapack.scaffold, lottapack.init_backbone_])
def test_tensors_in_the_same_memory_are_refused(share: Callable[[Any], None], draw: Callable[..., nn.Module]) -> None:
    net = model()
    share(net)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ScaffoldError, match=r"shares memory with \S+ and is another tensor") as error:
        draw(net, seed=1, **({"rank": 2} if draw is lottapack.scaffold else {}))
    assert "`data` does not tie" in error.value.hint
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def one_after_the_other(net: Any) -> None:
    """Like the weights of a recurrent layer on a GPU."""
    whole = torch.zeros(144)
    net[0].weight.data, net[0].bias.data = whole[:64].view(8, 8), whole[64:72]
    net[1].weight.data, net[1].bias.data = whole[72:136].view(8, 8), whole[136:]


def side_by_side(net: Any) -> None:
    net[0].weight.data, net[1].weight.data = torch.zeros(8, 16).chunk(2, dim=1)


def tied(net: Any) -> None:
    net[1].bias = net[0].bias


@pytest.mark.parametrize("share", [one_after_the_other, side_by_side, tied])
def test_memory_that_is_divided_or_tied_is_not(share: Callable[[Any], None]) -> None:
    net = model()
    share(net)
    drawn = lottapack.scaffold(net, seed=1, rank=2)
    apart = lottapack.scaffold(model(), seed=1, rank=2)
    for (name, tensor), (_, other) in zip(drawn.named_buffers(), apart.named_buffers(), strict=True):
        assert name == "lottapack_recipe" or tensor.numpy().tobytes() == other.numpy().tobytes()
