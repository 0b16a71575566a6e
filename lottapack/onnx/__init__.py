"""ONNX: the graph of a pack's model, and sessions of ONNX Runtime over its weights.

``pip install 'lottapack[onnx]'``. Writing a graph needs torch as well; running one does not.
"""

from lottapack.onnx.graphs import export
from lottapack.onnx.sessions import session

__all__ = ["export", "session"]
