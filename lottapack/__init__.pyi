"""The public names of lottapack, by section: the one list of them. Modules name what else they have in ``__all__``."""

# Modules
from lottapack import distributed as distributed
from lottapack import errors as errors
from lottapack import jax as jax
from lottapack import mlflow as mlflow
from lottapack import mlx as mlx
from lottapack import nn as nn
from lottapack import numpy as numpy
from lottapack import onnx as onnx
from lottapack import peft as peft
from lottapack import recover as recover
from lottapack import registry as registry
from lottapack import rng as rng
from lottapack.reports import speed as speed

# Train
from lottapack.nn.scaffolding import scaffold as scaffold
from lottapack.nn.switching import switch as switch
from lottapack.building import build as build
from lottapack.backbone import init_backbone_ as init_backbone_
from lottapack.studying import study as study

# Pack
from lottapack.packing.pack import pack as pack
from lottapack.packing.compression import Compression as Compression
from lottapack.format.results import Result as Result
from lottapack.comparing import compare as compare

# Load and export
from lottapack.loading.load import load as load
from lottapack.running import run as run
from lottapack.exporting.export import export as export

# Look and check
from lottapack.reports.inspection import inspect as inspect
from lottapack.reports.verification import verify as verify
from lottapack.reports.reporting import report as report
from lottapack.format.packfile import open_pack as open_pack

# Share and sign
from lottapack.pushing import push as push
from lottapack.registry import pull as pull
from lottapack.registry import list_packs as list_packs
from lottapack.registry import history as history
from lottapack.signing import sign as sign

# Random tensors
from lottapack.weights.drawing import draw as draw
from lottapack.rng.own_tables import table as table

# Progress
from lottapack.progress import ProgressBar as ProgressBar

# Errors
from lottapack.errors import LottapackError as LottapackError
from lottapack.version import __version__ as __version__
