"""Packs as a flavour of MLflow models, which MLflow's own loaders and servers run too. Extra: ``mlflow``."""

import shutil
import sys
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottapack.errors import CheckpointError, NotFoundError, OutputError, UnsupportedError
from lottapack.extras import require
from lottapack.files.staging import filled_folder
from lottapack.format.packfile import open_pack
from lottapack.registry.local import local
from lottapack.version import __version__

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["load_model", "log_model", "save_model"]

FLAVOR = "lottapack"
_DATA = "data"
_ENTRY = "MLmodel"
_MODULE = "lottapack.mlflow"
_LIBRARIES = {"transformers": "transformers", "timm": "timm"}
"""The families whose models need a library beside torch, and the extra that brings it."""


def save_model(
    pack: str | PathLike[str],
    path: str | PathLike[str],
    *,
    mlflow_model: Any = None,
    **options: Any,
) -> None:
    """Save a pack as an MLflow model in a folder, with the flavours ``lottapack`` and ``python_function``.

    Args:
        pack: the pack, or a reference as in load(). Its signature beside it is copied too.
        path: the folder, which must be new or empty.
        mlflow_model: the ``mlflow.models.Model`` to write; by default a new one.
        **options: more arguments of ``mlflow.pyfunc.save_model``, such as ``signature``, ``metadata`` or
            ``pip_requirements``. By default the requirements are this version of lottapack with torch and, if the model
            needs it, its library.

    Raises:
        UnsupportedError: MLflow is not installed.
        OutputError: the folder holds files already, or cannot be written.
        LottapackError: and every error of opening the pack.

    Source:
        https://mlflow.org/docs/latest/ml/model/#custom-flavors

    Examples:
        >>> lottapack.mlflow.save_model("model.lotta.safetensors", "mlflow-model")
    """
    mlflow = _mlflow()
    source, folder = local(pack), Path(path)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise OutputError(f"{folder} exists already", hint="Name a new folder. Nothing was changed.")
    with open_pack(source) as opened:
        extra = _LIBRARIES.get(opened.descriptor.architecture.family, "torch")
    model = mlflow.models.Model() if mlflow_model is None else mlflow_model
    model.add_flavor(FLAVOR, lottapack_version=__version__, pack=f"{_DATA}/{source.name}")
    options = {"pip_requirements": [f"lottapack[{extra}]=={__version__}"], **options}
    with filled_folder(folder, _ENTRY) as made:
        mlflow.pyfunc.save_model(made, loader_module=_MODULE, data_path=str(source), mlflow_model=model, **options)
        signature = source.with_name(f"{source.name}.sig")
        if signature.is_file():
            shutil.copyfile(signature, made / _DATA / signature.name)


def log_model(pack: str | PathLike[str], name: str = "model", **options: Any) -> Any:
    """Log a pack as a model of the active MLflow run.

    Args:
        pack: as in save_model().
        name: of the model.
        **options: more arguments of ``mlflow.models.Model.log``, such as ``registered_model_name``, and of
            save_model().

    Returns:
        MLflow's ModelInfo, whose ``model_uri`` load_model() takes.

    Raises:
        UnsupportedError: MLflow is not installed.
        LottapackError: and every error of opening the pack.

    Source:
        https://mlflow.org/docs/latest/ml/model/#custom-flavors

    Examples:
        >>> info = lottapack.mlflow.log_model("model.lotta.safetensors")
        >>> lottapack.mlflow.load_model(info.model_uri)
        Sequential(...)
    """
    return _mlflow().models.Model.log(None, flavor=sys.modules[__name__], name=name, pack=pack, **options)


def load_model(model_uri: str | PathLike[str], **options: Any) -> "nn.Module":
    """Load the model of a pack from MLflow.

    Args:
        model_uri: an address that MLflow knows, such as ``models:/name/1`` or a folder of save_model().
        **options: of load(), such as ``device``, ``backbone``, ``allow`` and ``require_signature``.

    Raises:
        UnsupportedError: MLflow is not installed.
        NotFoundError: MLflow cannot read the model, or it does not have the flavour ``lottapack``.
        LottapackError: and every error of load().

    Source:
        https://mlflow.org/docs/latest/ml/model/#custom-flavors

    Examples:
        >>> lottapack.mlflow.save_model("model.lotta.safetensors", "saved")
        >>> lottapack.mlflow.load_model("saved", device="cpu")
        Sequential(...)
    """
    from lottapack.loading.load import load

    mlflow = _mlflow()
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=str(model_uri)))
        flavors = mlflow.models.Model.load(str(folder)).flavors
    except Exception as fault:
        said = " ".join(str(fault).split())[:300] or type(fault).__name__
        raise NotFoundError(
            f"MLflow cannot read the model {model_uri}: {said}",
            hint="Check the address, and mlflow.get_tracking_uri().",
        ) from fault
    if FLAVOR not in flavors:
        raise NotFoundError(
            f"the MLflow model {model_uri} does not have the flavour {FLAVOR}",
            hint="Load it with mlflow.pyfunc.load_model().",
        )
    return load(folder / _DATA, **options)


def _mlflow() -> Any:
    mlflow = require("mlflow", "mlflow", "an MLflow model")
    require("mlflow.pyfunc", "mlflow", "an MLflow model")
    return mlflow


class _Predictor:
    """What MLflow calls: arrays in, arrays out."""

    def __init__(self, model: "nn.Module") -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return the outputs for an array, a table of numbers, or arrays by the names of forward()'s arguments.

        Of a dict, the tensors. Raises CheckpointError for inputs that the model cannot take, UnsupportedError for
        outputs that are neither a tensor nor a dict.
        """
        import torch

        if params:
            raise UnsupportedError(
                f"a pack does not take the parameters {', '.join(params)}", hint="Pass its inputs only."
            )
        try:
            with torch.no_grad():
                if isinstance(model_input, dict):
                    outputs = self.model(**{name: self._tensor(one) for name, one in model_input.items()})
                else:
                    outputs = self.model(self._tensor(model_input))
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as fault:
            raise CheckpointError(
                f"a {type(self.model).__name__} cannot take this input: {fault}",
                hint="Pass numbers of the shape and kind that its forward() takes: 1.0 where it computes with floats.",
            ) from fault
        if isinstance(outputs, dict):
            return {name: _array(one) for name, one in outputs.items() if isinstance(one, torch.Tensor)}
        if not isinstance(outputs, torch.Tensor):
            raise UnsupportedError(
                f"the output of a {type(self.model).__name__} is a {type(outputs).__name__}, and MLflow takes arrays",
                hint="Call the model of lottapack.mlflow.load_model(), or pack one that returns a tensor or a dict.",
            )
        return _array(outputs)

    def _tensor(self, values: Any) -> "torch.Tensor":
        """Return an input as a tensor; numbers that float in the dtype of the model's parameters."""
        import numpy as np
        import torch

        array = np.ascontiguousarray(values)
        tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        floating = next((one.dtype for one in self.model.parameters() if one.is_floating_point()), tensor.dtype)
        return tensor.to(floating) if tensor.is_floating_point() else tensor


def _array(tensor: "torch.Tensor") -> Any:
    """Return an output as an array; bfloat16, which NumPy lacks, as float32."""
    return tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()


def _load_pyfunc(path: str) -> _Predictor:
    """Return what MLflow's loaders call. They name no options: packs that need ``allow`` are refused here."""
    from lottapack.loading.load import load

    return _Predictor(load(path))
