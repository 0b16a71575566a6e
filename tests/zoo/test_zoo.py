"""Small models of many kinds: every adapter gets a gradient, and the loaded model computes the same.

Each is scaffolded with the defaults, trained a step, and packed, in float32 or in bfloat16 (`make test-all`: in both,
for nothing that is tested asks for a model's kind and its dtype); another process loads all packs and compares with
what was left beside them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from extent import crossed
from zoo_models import TIMM, TORCH, TRANSFORMERS, built
from zoo_runs import as_dtype, train

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TIMM_PYTHON = ROOT / ".venv-timm" / "bin" / "python"
DTYPES = ("float32", "bfloat16")
FAST_PATH = {"float32": 1e-5, "bfloat16": 0.05}
"""How far outputs with and without gradients may be from each other: torch orders its sums in two ways."""
MERGED = {"float32": 1e-4, "bfloat16": 0.15}
"""How far outputs of merged weights may be from those of adapters: they are rounded once more.

Jamba is the furthest in bfloat16, 0.11: its outputs are 0.05 (adapters) and 0.08 (merged) from those in float32.
"""


def process(python, *arguments):
    """What zoo_process.py prints: by name of the model and dtype."""
    paths = [str(ROOT), str(HERE), str(ROOT / "tests" / "families")]
    done = subprocess.run(
        [python, HERE / "zoo_process.py", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return {(name, dtype): found for name, dtype, found in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the other process: how sums are ordered depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SCALE_FREE = {"Swinv2ForImageClassification": (".query.weight", ".key.weight")}
"""Weights of cosine attention, which divides by their scale: while B is zero, beta's gradient is rounding or zero."""


def require_reached(name, dtype, found):
    assert found["adapters"]
    assert not found["unused"]
    without = [one for one in found["step"] if not one.endswith(SCALE_FREE.get(name, ()))]
    assert not without, "no gradient, or none for beta"
    assert not found["autocast step"]
    assert not found["idle"], "changes no output"
    assert found["fast path"] <= FAST_PATH[dtype]


def require_came_back(found):
    assert {key: value["other bits"] for key, value in found.items() if value["other bits"]} == {}
    assert {key: value["merged"] for key, value in found.items() if not value["merged"] <= MERGED[key[1]]} == {}


@pytest.mark.parametrize(("name", "dtype"), crossed([*TRANSFORMERS, *TORCH], DTYPES))
@pytest.mark.filterwarnings("ignore")
def test_every_adapter_is_reached(name, dtype, packs):
    model, inputs = built(name)
    kind = getattr(torch, dtype)
    found = train(model.to(kind), as_dtype(inputs, kind), packs / f"{name}-{dtype}.lotta")
    require_reached(name, dtype, found)


@pytest.mark.slow
def test_another_process_computes_the_same(packs):
    there = {tuple(path.stem.rsplit("-", 1)) for path in packs.glob("*.lotta")}
    if not there:
        pytest.skip("there are no packs: it takes those of test_every_adapter_is_reached")
    found = process(sys.executable, "again", packs)
    assert found.keys() == there
    require_came_back(found)


@pytest.mark.every
@pytest.mark.slow
def test_models_of_timm(tmp_path):
    """In the environment of tests/families/test_timm.py, both processes."""
    if not TIMM_PYTHON.is_file():
        pytest.skip("missing: .venv-timm: make unit")
    cases = crossed([*TIMM], DTYPES)
    found = process(TIMM_PYTHON, "train", tmp_path, *map("-".join, cases))
    assert found.keys() == {*cases}
    for (name, dtype), one in found.items():
        require_reached(name, dtype, one)
    found = process(TIMM_PYTHON, "again", tmp_path)
    assert len(found) == len(cases)
    require_came_back(found)


@pytest.mark.parametrize("kind", ["Model", "EncoderModel", "ForConditionalGeneration"])
def test_every_expert_of_a_switch_that_gets_a_token_is_reached(kind):
    """Each token goes to one expert; with few tokens an expert may get none, and its adapter no gradient."""
    import transformers

    import lottapack

    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 2}
    sizes |= {"num_heads": 2, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    config = transformers.SwitchTransformersConfig(**sizes, expert_capacity=256, router_jitter_noise=0.0)
    torch.manual_seed(0)
    model = lottapack.scaffold(getattr(transformers, f"SwitchTransformers{kind}")(config), seed=1, rank=1)
    tokens = torch.randint(3, 64, (2, 256), generator=torch.Generator().manual_seed(0))
    given = {"input_ids": tokens} if kind == "EncoderModel" else {"input_ids": tokens, "decoder_input_ids": tokens}
    next(iter(model(**given).values())).square().sum().backward()
    adapters = {name: one for name, one in model.named_parameters() if name.endswith("lora_B")}
    assert any("expert_3" in name for name in adapters)
    assert [name for name, one in adapters.items() if one.grad is None or not one.grad.any()] == []
