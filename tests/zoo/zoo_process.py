"""Packs of the zoo in their own process. Prints a line of JSON for each model.

zoo_process.py train FOLDER NAME-DTYPE...  trains models and leaves packs, their inputs and outputs in the folder
zoo_process.py again FOLDER                loads each pack of the folder
"""

import json
import sys
import warnings
from pathlib import Path

try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision_without_ops  # noqa: F401
import torch
from zoo_models import built
from zoo_runs import again, as_dtype, train

warnings.simplefilter("ignore")
torch.set_num_threads(1)
what, folder, *cases = sys.argv[1:]
if what == "train":
    for case in cases:
        name, dtype = case.rsplit("-", 1)
        model, inputs = built(name)
        kind = getattr(torch, dtype)
        found = train(model.to(kind), as_dtype(inputs, kind), Path(folder) / f"{case}.lotta")
        print(json.dumps([name, dtype, found]))
else:
    for path in sorted(Path(folder).glob("*.lotta")):
        print(json.dumps([*path.stem.rsplit("-", 1), again(path)]))
