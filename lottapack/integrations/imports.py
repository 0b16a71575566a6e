"""Import a module of lottapack right after a module of another library.

``import lottapack`` must stay quick, so it cannot import the libraries that it registers with, and users should not
have to call anything. Python's mechanism for this is a finder in ``sys.meta_path``: this one lets the other finders
find the watched module, and adds a step to its execution.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Watcher:
    """A finder. ``waiting``: the module to import after each watched module.

    It does not inherit from ``importlib.abc.MetaPathFinder``, whose import takes longer than all others here.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find is not None else None
            if spec is not None and spec.loader is not None:
                _append(spec, self.waiting.pop(fullname))
                return spec
        return None


_WATCHER = _Watcher()


def after_import(watched: str, module: str) -> None:
    """Import ``module`` after ``watched``: now if that is imported already, else when it is."""
    if watched in sys.modules:
        import_module(module)
        return
    _WATCHER.waiting[watched] = module
    if _WATCHER not in sys.meta_path:
        sys.meta_path.insert(0, _WATCHER)


def _append(spec: ModuleSpec, module: str) -> None:
    """Let the spec's loader, which only serves this module, import ours afterwards."""
    loader = spec.loader
    assert loader is not None
    execute = loader.exec_module

    def exec_module(watched: ModuleType) -> None:
        execute(watched)
        try:
            import_module(module)
        except ImportError as fault:
            # Other versions of the library may lack what we use, and must still work.
            warnings.warn(f"lottapack cannot register with {watched.__name__}: {fault}", RuntimeWarning, stacklevel=2)

    loader.exec_module = exec_module  # type: ignore[assignment, method-assign]
