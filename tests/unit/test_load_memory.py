"""load() holds the model once; extra memory is bounded and checked before allocation."""

import gc
from pathlib import Path

import pytest
import torch
from memory import peak, size
from models import all_bits, bits, train, trained
from torch import nn

import lottapack
from lottapack import limits, rng
from lottapack.format.descriptor import Adapted
from lottapack.loading import load as loading
from lottapack.nn import skeletons
from lottapack.weights import rebuild

SHARE = 1.05
"""Of the model's own bytes, what loading it may take at most."""
WAYS = [
    {},
    {"merge": True},
    {"dtype": torch.bfloat16},
    {"dtype": torch.float16, "merge": True},
    {"dtype": torch.bfloat16, "merge": True, "check_fingerprints": True},
]


def large(width: int) -> nn.Sequential:
    """Six widths squared of parameters in three layers, and a head."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.Linear(width, 2 * width))


def packed(folder: Path, model: nn.Module) -> Path:
    return lottapack.pack(train(model), folder / "a").path


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """25 million parameters, so that 5 per cent are about 5 MB, or 2.5 in 16 bits."""
    return packed(tmp_path_factory.mktemp("large"), lottapack.scaffold(large(2048), seed=1, rank=4))


@pytest.mark.parametrize("at_once", [False, True], ids=["in threads", "at once, as on a GPU"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_model_is_never_there_twice(pack, way, at_once, monkeypatch):
    if at_once:
        monkeypatch.setattr(loading._Rebuild, "_in_threads", loading._Rebuild._at_once)
    lottapack.load(pack, **way)  # what is made once in a process
    model, most = peak(lambda: lottapack.load(pack, **way))
    assert size(model) <= most + 64_000  # what the CPU counts is what it gave
    assert most <= SHARE * size(model)


def test_a_large_stored_tensor_is_converted_while_it_is_read(tmp_path):
    model = nn.Sequential(nn.Embedding(1 << 16, 64), nn.Linear(64, 64))  # 16 MiB, nearly all there is
    path = packed(tmp_path, lottapack.scaffold(model, seed=1, rank=1, targets=["1"]))
    whole = lottapack.load(path)
    lottapack.load(path, dtype=torch.bfloat16)  # what is made once in a process
    model, most = peak(lambda: lottapack.load(path, dtype=torch.bfloat16))
    assert bits(model[0].weight) == bits(whole[0].weight.to(torch.bfloat16))
    assert most <= SHARE * size(model)


@pytest.mark.parametrize("place", [-1, -4 * 4096 * 64], ids=["its end", "its beginning"])
def test_a_change_is_found_when_it_is_converted(tmp_path, place):
    model = nn.Sequential(nn.Embedding(4096, 64), nn.Linear(64, 64))
    path = lottapack.pack(lottapack.scaffold(model, seed=1, rank=1, train=["0"], targets=["1"]), tmp_path / "a").path
    with lottapack.open_pack(path) as found:
        end = found.data_start + found.tensors["0.weight"].end
    data = bytearray(path.read_bytes())
    data[end + place] ^= 1
    path.write_bytes(data)
    with pytest.raises(lottapack.errors.IntegrityError, match=r"0\.weight"):
        lottapack.load(path, dtype=torch.bfloat16)


def test_a_second_copy_is_seen(pack):
    """Show that the test above can fail."""
    model, most = peak(lambda: [copy := lottapack.load(pack), copy.to(torch.bfloat16)][1])
    assert most > SHARE * size(model)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_on_a_gpu_too(tmp_path, way):
    path = packed(tmp_path, lottapack.scaffold(large(8192), seed=1, rank=4))
    lottapack.load(path, device="cuda", **way)
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = lottapack.load(path, device="cuda", **way)
    assert torch.cuda.max_memory_allocated() - before <= SHARE * size(model)
    assert all_bits(model) == all_bits(lottapack.load(path, **way))


@pytest.mark.parametrize("name", ["mlp", "cnn", "text", "gpt2", "llama"])
@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_converting_in_pieces_is_converting_the_whole(name, merge, dtype, tmp_path, monkeypatch):
    """The merged weight is rounded to its recorded dtype before it is converted."""
    monkeypatch.setattr(rebuild, "_PIECE", 37)
    path = lottapack.pack(trained(name), tmp_path / "a").path
    found = lottapack.load(path, merge=merge, dtype=dtype, check_fingerprints=True)
    whole = lottapack.load(path, merge=merge)
    for key, tensor in whole.state_dict().items():
        if key == "lottapack_recipe":  # says the dtypes of the moment
            continue
        wanted = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert bits(found.state_dict()[key]) == bits(wanted), key


def test_a_wrong_fingerprint_is_found_whatever_the_dtype(tmp_path, monkeypatch):
    path = lottapack.pack(trained("mlp"), tmp_path / "a").path
    right = rng.fingerprints_on
    monkeypatch.setattr(rng, "fingerprints_on", lambda *given: [one ^ 1 for one in right(*given)], raising=False)
    assert lottapack.load(path, check_fingerprints=True)
    for merge in (True, False):
        with pytest.raises(lottapack.errors.IntegrityError, match="rebuilt with the fingerprint"):
            lottapack.load(path, dtype=torch.bfloat16, merge=merge, check_fingerprints=True)


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("way", [{}, {"dtype": torch.bfloat16}, {"check_fingerprints": True}], ids=str)
@pytest.mark.parametrize("name", ["text", "gpt2"])
def test_all_weights_at_once_are_those_one_by_one(name, way, merge, tmp_path, monkeypatch):
    """The GPU's path, on the CPU."""
    path = lottapack.pack(trained(name), tmp_path / "a").path
    expected = all_bits(lottapack.load(path, merge=merge, **way))
    monkeypatch.setattr(loading._Rebuild, "_in_threads", loading._Rebuild._at_once)
    assert all_bits(lottapack.load(path, merge=merge, **way)) == expected
    wrong = lambda jobs, fingerprints: [0] * len(jobs) if fingerprints else []  # noqa: E731
    monkeypatch.setattr(rng, "fill_all_", wrong, raising=False)
    if "check_fingerprints" in way:
        with pytest.raises(lottapack.errors.IntegrityError, match="rebuilt with the fingerprint 0000000000000000"):
            lottapack.load(path, merge=merge, **way)


def refused(path: Path, **way: object) -> lottapack.errors.LimitError:
    with pytest.raises(lottapack.errors.LimitError) as error:
        lottapack.load(path, **way)
    for word in ("`dtype`", "`device`", "`max_bytes`", "`merge`"):
        assert word in error.value.hint
    return error.value


def test_what_does_not_fit_is_refused_before_anything_is_taken(pack, monkeypatch):
    monkeypatch.setattr(skeletons, "skeleton", lambda *_: pytest.fail("something was built"))
    monkeypatch.setattr(rebuild, "empty_backbone", lambda *_: pytest.fail("memory was taken"))
    monkeypatch.setattr(limits, "free_memory", lambda device: 40_000_000)
    error = refused(pack)
    assert "the model needs 101 MB, but only 40 MB are free on cpu" in error.message
    error = refused(pack, dtype=torch.bfloat16)
    assert "the model needs 50.5 MB" in error.message


def test_a_gpu_is_asked_what_is_free(pack, monkeypatch):
    """Fake a GPU's answers."""
    monkeypatch.setattr(skeletons, "skeleton", lambda *_: pytest.fail("something was built"))
    monkeypatch.setattr(loading, "resolve", torch.device)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000_000, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200_000)
    error = refused(pack, device="cuda:1")
    assert "the model needs 101 MB, but only 1.5 MB are free on cuda:1" in error.message


def test_adapters_that_stay_count(tmp_path):
    path = lottapack.pack(trained("mlp"), tmp_path / "a").path
    plain = size(lottapack.load(path, merge=True))
    with lottapack.open_pack(path) as found:
        adapted = [entry for entry in found.descriptor.parameters.values() if isinstance(entry, Adapted)]
    kept = sum(4 * (entry.rank * sum(entry.shape) + 1) for entry in adapted)
    assert lottapack.load(path, merge=True, max_bytes=plain)
    refused(path, merge=True, max_bytes=plain - 1)
    assert lottapack.load(path, max_bytes=plain + kept)
    refused(path, max_bytes=plain + kept - 1)
