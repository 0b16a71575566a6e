"""lottapack: neural networks with a random, frozen backbone as one small file, rebuilt bit for bit on any device.

The names below are all there is to know; each is imported when it is first used, so that ``import lottapack`` is
quick and what needs no tensor never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lottapack.errors import (
    AccessError,
    AgreementError,
    ArchitectureError,
    BadKeyError,
    BadReferenceError,
    CheckpointError,
    ConflictError,
    ContainerError,
    DescriptorError,
    DeviceError,
    FormatError,
    IntegrityError,
    LimitError,
    LottapackError,
    MissingError,
    NetworkError,
    NotAllowedError,
    OutputError,
    PlacementError,
    Problem,
    RegistryError,
    ScaffoldError,
    SignatureError,
    UnsupportedError,
    UnusedOptionWarning,
)
from lottapack.integrations import install as _install
from lottapack.version import __version__

if TYPE_CHECKING:
    from lottapack.backbone import init_backbone_
    from lottapack.building import build
    from lottapack.comparing import Comparison, compare
    from lottapack.exporting.export import export
    from lottapack.format.packfile import PackFile, open_pack
    from lottapack.loading.filling import fill_
    from lottapack.loading.load import load
    from lottapack.loading.numpy_loading import load_numpy
    from lottapack.loading.sharding import load_meta
    from lottapack.nn import (
        active_scaffold,
        exclude_from_ddp,
        is_scaffolded,
        regenerate_,
        scaffold,
        scaffolds_of,
        switch,
    )
    from lottapack.packing.merged_checkpoints import Layer, MergedResult, pack_merged
    from lottapack.packing.pack import BackboneChangedWarning, Kept, PackResult, pack
    from lottapack.packing.torch_cpu import pack_torch_cpu
    from lottapack.registry import PullResult, PushResult, list_packs, log, pull, push
    from lottapack.reports.inspection import Summary, inspect
    from lottapack.reports.reporting import Report, report
    from lottapack.reports.speed import Speed, SpeedReport, bench
    from lottapack.reports.verification import Check, Verification, verify
    from lottapack.rng.own_tables import table
    from lottapack.rng.tables import Table
    from lottapack.signing import sign
    from lottapack.weights.drawing import draw

_HOME = {
    "init_backbone_": "backbone",
    "build": "building",
    "Comparison": "comparing",
    "compare": "comparing",
    "draw": "weights.drawing",
    "export": "exporting.export",
    "Summary": "reports.inspection",
    "inspect": "reports.inspection",
    "load": "loading.load",
    "fill_": "loading.filling",
    "load_meta": "loading.sharding",
    "load_numpy": "loading.numpy_loading",
    "Layer": "packing.merged_checkpoints",
    "MergedResult": "packing.merged_checkpoints",
    "pack_merged": "packing.merged_checkpoints",
    "Speed": "reports.speed",
    "SpeedReport": "reports.speed",
    "bench": "reports.speed",
    "pack_torch_cpu": "packing.torch_cpu",
    "active_scaffold": "nn",
    "exclude_from_ddp": "nn",
    "is_scaffolded": "nn",
    "regenerate_": "nn",
    "scaffold": "nn",
    "scaffolds_of": "nn",
    "switch": "nn",
    "BackboneChangedWarning": "packing.pack",
    "Kept": "packing.pack",
    "PackResult": "packing.pack",
    "pack": "packing.pack",
    "PackFile": "format.packfile",
    "open_pack": "format.packfile",
    "PullResult": "registry",
    "PushResult": "registry",
    "list_packs": "registry",
    "log": "registry",
    "pull": "registry",
    "push": "registry",
    "Report": "reports.reporting",
    "report": "reports.reporting",
    "sign": "signing",
    "Table": "rng.tables",
    "table": "rng.own_tables",
    "Check": "reports.verification",
    "Verification": "reports.verification",
    "verify": "reports.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lottapack' has no attribute {name!r}")
    return getattr(import_module(f"lottapack.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


_install()

__all__ = [
    "AccessError",
    "AgreementError",
    "ArchitectureError",
    "BackboneChangedWarning",
    "BadKeyError",
    "BadReferenceError",
    "Check",
    "CheckpointError",
    "Comparison",
    "ConflictError",
    "ContainerError",
    "DescriptorError",
    "DeviceError",
    "FormatError",
    "IntegrityError",
    "Kept",
    "Layer",
    "LimitError",
    "LottapackError",
    "MergedResult",
    "MissingError",
    "NetworkError",
    "NotAllowedError",
    "OutputError",
    "PackFile",
    "PackResult",
    "PlacementError",
    "Problem",
    "PullResult",
    "PushResult",
    "RegistryError",
    "Report",
    "ScaffoldError",
    "SignatureError",
    "Speed",
    "SpeedReport",
    "Summary",
    "Table",
    "UnsupportedError",
    "UnusedOptionWarning",
    "Verification",
    "__version__",
    "active_scaffold",
    "bench",
    "build",
    "compare",
    "draw",
    "exclude_from_ddp",
    "export",
    "fill_",
    "init_backbone_",
    "inspect",
    "is_scaffolded",
    "list_packs",
    "load",
    "load_meta",
    "load_numpy",
    "log",
    "open_pack",
    "pack",
    "pack_merged",
    "pack_torch_cpu",
    "pull",
    "push",
    "regenerate_",
    "report",
    "scaffold",
    "scaffolds_of",
    "sign",
    "switch",
    "table",
    "verify",
]
