"""The package that tests of the family ``python`` import or must not import."""

PACKAGE = "lottapack_test_models"

MODELS = """
import collections
import os
import subprocess
from subprocess import Popen

import numpy as np
import torch
from torch import nn
from torch.nn import Linear
from lottapack_test_models import other

REAL = torch.arange(3.0)


class Options:
    def __init__(self, depth, names=()):
        self.depth, self.names = depth, names


class Net(nn.Module):
    def __init__(self, width, norm=(1, 1), options=None):
        super().__init__()
        assert isinstance(norm, tuple)
        self.options = options
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, norm[0])
        self.register_buffer("positions", torch.arange(width, dtype=torch.float32), persistent=False)
        self.register_buffer("count", torch.zeros(2))
        self.offset = torch.linspace(0, 1, width)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x + self.positions + self.offset)))


class Dice(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.noise = torch.from_numpy(np.random.default_rng().normal(size=4))


class Drawn(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.noise = torch.randn(4)


class Extra(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 4)

    def get_extra_state(self):
        return {"a": 1}


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.LazyLinear(4)


class Picky(nn.Module):
    def __init__(self, width):
        super().__init__()
        if width > 8:
            raise ValueError("too wide")
        self.body = nn.Linear(width, width)


class Clash(nn.Module):
    def __init__(self, called, size=4):
        super().__init__()
        self.body, self.head = nn.Linear(4, size), nn.Linear(size, 8)
        self.body.register_parameter(called, nn.Parameter(torch.ones(size)))

    def forward(self, x):
        return self.head(self.body(x))


class Liar(nn.Module):
    def __new__(cls):
        return "no module"


def function():
    return nn.Linear(2, 2)


value = 3
"""
