"""Import torchvision, or declare what timm needs of it where its compiled part is of another build of torch."""

import sys
from contextlib import suppress

try:
    with suppress(ImportError):  # timm is absent then too
        import torchvision  # noqa: F401
except RuntimeError:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision_without_ops  # noqa: F401
