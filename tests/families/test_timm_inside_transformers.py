"""timm's options that load files are refused also inside classes of transformers."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from lottapack.format import canonical
from lottapack.format.rules import architecture_problems
from lottapack.strict_json.text import JsonText

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-timm" / "bin" / "python"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return the results of wrapped_timm_checks.py. This environment has transformers, the other one timm."""
    transformers = pytest.importorskip("transformers")
    if not PYTHON.is_file():
        pytest.skip("missing: .venv-timm: make unit")
    folder = tmp_path_factory.mktemp("wrapped")
    path = os.pathsep.join([str(ROOT), str(Path(transformers.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "TRANSFORMERS_VERBOSITY": "critical"}
    command = [PYTHON, "-W", "ignore", Path(__file__).parent / "wrapped_timm_checks.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_what_names_nothing_is_built(found):
    assert found["wrapper"] == "built TimmWrapperModel"
    assert found["backbone"] == "built TimmBackbone"
    assert found["detr"] == "built DetrModel"
    assert found["timm"] == "built ResNet"


def test_memory_that_timm_fills_afterwards_is_computed(found):
    """Return the window indices and masks of a Swin."""
    count, _, verdict = found["filled"].partition(" tensors, ")
    assert (verdict, int(count) > 10) == ("equal", True), found["filled"]


def test_nothing_is_opened_and_no_code_runs(found):
    hostile = {name: outcome for name, outcome in found.items() if name.startswith("hostile")}
    assert len(hostile) == 12
    for name, outcome in hostile.items():
        assert outcome.startswith(("ArchitectureError: ", "LimitError: ")), name
    opened = [name for name, outcome in hostile.items() if "would open the file" in outcome]
    assert len(opened) == 4, hostile
    assert found["ran"] == "False"


@pytest.mark.parametrize(
    "key",
    [
        "attribute_map",
        "cache_dir",
        "checkpoint_path",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "scriptable",
    ],
)
def test_the_keys_are_refused_at_any_depth(key):
    for config in ({key: 1}, {"backbone_config": {"backbone_kwargs": [{key: {}}]}}, {"model_args": {key: None}}):
        problems = architecture_problems("transformers", "TimmWrapperModel", JsonText(canonical.dumps(config)))
        assert [problem.where.rpartition(".")[2] for problem in problems] == [key]
    honest = {"pretrained_window_sizes": [0], "use_pretrained_backbone": False, "pretraining_tp": 1, "out_indices": [1]}
    assert architecture_problems("transformers", "SwinModel", JsonText(canonical.dumps(honest))) == []
