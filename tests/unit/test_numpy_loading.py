import json
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from numpy_digests import digests
from sound import Model, Tensor, linear, sequential

import lottapack
from lottapack.weights import arrays

VALID = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"


def known_answers() -> dict[str, dict[str, str]]:
    """Return by pack and scaffold the SHA-256 of each merged weight, from the vectors."""
    found = {}
    for sidecar in sorted(VALID.glob("*.json")):
        path = str(sidecar.with_suffix("")) + ".lotta.safetensors"
        answer = json.loads(sidecar.read_text("utf-8"))
        if sidecar.stem.startswith("torch_cpu"):
            continue
        found[path] = answer["merged_sha256"]
        found |= {f"{path}:{name}": other["merged_sha256"] for name, other in answer.get("scaffolds", {}).items()}
    return found


@pytest.mark.parametrize("argument", known_answers(), ids=lambda path: Path(path).name)
def test_the_vectors(argument):
    assert digests(argument) == known_answers()[argument]


@pytest.mark.parametrize("option", [[], ["--without-kernels"]], ids=["numba", "reference"])
def test_the_vectors_without_torch(option):
    """Run in a process where importing torch is an error."""
    answers = known_answers()
    program = Path(__file__).with_name("numpy_digests.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", program, *option, *answers],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_trained_model_has_the_bits_of_load(dtype, tmp_path):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = models.train(lottapack.scaffold(models.tied_llama(dtype), seed=3, rank=3))
    path = lottapack.pack(model, tmp_path / "model.lotta.safetensors").path
    expected = lottapack.load(path, merge=True).state_dict()
    found = lottapack.numpy.load(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        exact = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        assert np.array_equal(found[name].view(np.uint8), exact.numpy().view(np.uint8)), name
    assert found["lm_head.weight"] is found["model.embed_tokens.weight"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int64", "bool"])
def test_a_single_element_is_an_array_like_all_others(dtype, tmp_path):
    """As logit_scale of CLIP. NumPy makes its own numbers of arrays without dimensions."""
    model = Model(sequential(linear(2, 2)), 7)
    size = {"float32": 4, "float64": 8, "int64": 8, "bool": 1}.get(dtype, 2)
    model.stored("stored", Tensor(dtype, [], bytes([1]) * size))
    model.constant("constant", [], dtype, "01" * size)
    if dtype in ("float32", "float16", "bfloat16"):
        model.seeded("seeded", [], dtype, "sign1")
    (tmp_path / "a").write_bytes(model.file())
    for name, array in lottapack.numpy.load(tmp_path / "a").items():
        assert isinstance(array, np.ndarray), name
        assert array.shape == ()
        recorded = array.view(np.uint32) >> 16 if dtype == "bfloat16" else array
        assert recorded.tobytes()[:size] == model.plain[name]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("wanted", ["float32", "float16", "bfloat16", "float64"])
def test_a_conversion_keeps_the_shape(dtype, wanted, shape):
    found = arrays.converted(np.zeros(shape, arrays.numpy_dtype(dtype)), dtype, wanted)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (shape, arrays.numpy_dtype(wanted))


def test_weights_that_torch_drew_are_refused():
    with pytest.raises(lottapack.errors.UnsupportedError, match="drawn by torch"):
        lottapack.numpy.load(VALID / "torch_cpu.lotta.safetensors")


def test_a_model_larger_than_allowed_is_refused():
    with pytest.raises(lottapack.errors.LimitError, match="`max_bytes=100` allows"):
        lottapack.numpy.load(VALID / "backbone_dtypes.lotta.safetensors", max_bytes=100)


def test_a_damaged_tensor_is_refused(tmp_path):
    data = bytearray((VALID / "every_role.lotta.safetensors").read_bytes())
    data[-1] ^= 1
    path = tmp_path / "damaged.lotta.safetensors"
    path.write_bytes(data)
    with pytest.raises(lottapack.errors.IntegrityError, match="SHA-256"):
        lottapack.numpy.load(path)


def test_an_unknown_scaffold_is_refused():
    with pytest.raises(lottapack.errors.ScaffoldError):
        lottapack.numpy.load(VALID / "every_role.lotta.safetensors", scaffold="nothing")
