"""A pytest plugin that runs lottapack's own code under other defaults of the process.

``pytest -p other_defaults --defaults bfloat16,meta,deterministic``. Whenever a function of lottapack is called from
outside, the default dtype, the default device and the rest are set for as long as it runs. The tests themselves, their
models and what they expect stay as they are: whatever they find has to be the same.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
import threading

import torch
from torch import nn

PACKAGES = (
    "nn",
    "products",
    "folders",
    "loading",
    "distributed",
    "packing",
    "weights",
    "rng",
    "format",
    "backbone",
    "arch",
)
_inside: list[str] = []
"""The function of lottapack's that was called from outside, while it runs. The default dtype is one for all threads."""


class Defaults:
    """Set defaults while lottapack runs: a dtype, a device, ``deterministic``, ``one-thread``."""

    def __init__(self, words):
        dtypes = [getattr(torch, word) for word in words if isinstance(getattr(torch, word, None), torch.dtype)]
        self.dtype = dtypes[0] if dtypes else torch.float32
        self.device = next((word for word in words if word in ("cpu", "meta")), None)
        self.deterministic, self.one_thread = "deterministic" in words, "one-thread" in words

    def __enter__(self):
        self.before = torch.get_default_dtype(), torch.get_num_threads()
        torch.set_default_dtype(self.dtype)
        if self.one_thread:
            torch.set_num_threads(1)
        if self.deterministic:
            torch.use_deterministic_algorithms(True)
        self.mode = torch.device(self.device) if self.device else None
        if self.mode is not None:
            self.mode.__enter__()

    def __exit__(self, *fault):
        if self.mode is not None:
            self.mode.__exit__(*fault)
        torch.set_default_dtype(self.before[0])
        torch.set_num_threads(self.before[1])
        torch.use_deterministic_algorithms(False)


ON_MODULES = ("refuse_other_backbone", "_guarded", "_register")
"""Functions that lottapack puts on modules, and that make no tensor: pack() asks where such a function was written."""


def wrapped(function, words):
    """Wrap a function so that it sets the defaults when the caller is outside lottapack."""

    @functools.wraps(function)
    def inner(*arguments, **options):
        if torch.compiler.is_compiling() or sys.is_finalizing():  # first: torch.compile cannot trace what follows
            return function(*arguments, **options)
        if _inside or threading.current_thread() is not threading.main_thread():
            return function(*arguments, **options)
        _inside.append(function.__qualname__)
        try:
            with Defaults(words):
                return function(*arguments, **options)
        finally:
            _inside.pop()

    return inner


def modules():
    import lottapack

    for package in PACKAGES:
        module = importlib.import_module(f"lottapack.{package}")
        yield module
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{module.__name__}."):
            if (
                not found.name.endswith(("gpu", "gpu_kernels", "graph_linear", "timm_models"))
                and ".kernels." not in found.name
            ):
                yield importlib.import_module(found.name)
    yield lottapack


def pytest_addoption(parser):
    parser.addoption("--defaults", default="bfloat16,meta", help="of the process, while lottapack runs")


def pytest_configure(config):
    words = config.getoption("--defaults").split(",")
    found = list(dict.fromkeys(modules()))
    made = {}
    for module in found:
        for function in list(vars(module).values()):
            plain = inspect.isfunction(function) and function.__module__.startswith("lottapack.")
            if plain and not inspect.isgeneratorfunction(function) and function.__name__ not in ON_MODULES:
                made.setdefault(function, wrapped(function, words))
    import lottapack

    for name in lottapack.__all__:
        function = getattr(lottapack, name)
        if inspect.isfunction(function):
            made.setdefault(function, wrapped(function, words))
            setattr(lottapack, name, made[function])
    for module in found:
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value in made:
                setattr(module, name, made[value])
        for value in list(vars(module).values()):
            is_layer = inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
            if is_layer and "forward" in vars(value):
                value.forward = wrapped(value.forward, words)
