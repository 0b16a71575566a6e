"""Packs of the zoo in their own process. Prints a line of JSON for each model.

zoo_process.py train FOLDER NAMES...  trains models and leaves packs, their inputs and outputs in the folder
zoo_process.py again FOLDER           loads each pack of the folder
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
what, folder, *names = sys.argv[1:]
if what == "train":
    for name in names:
        for dtype in (torch.float32, torch.bfloat16):
            model, inputs = built(name)
            found = train(model.to(dtype), as_dtype(inputs, dtype), Path(folder) / f"{name}-{str(dtype)[6:]}.lotta")
            print(json.dumps([name, str(dtype)[6:], found]))
else:
    for path in sorted(Path(folder).glob("*.lotta")):
        print(json.dumps([*path.stem.rsplit("-", 1), again(path)]))
