"""pack() and load(): every bit comes back, for all models and ways of saving."""

import gc
import json
import threading
import time

import pytest
import torch
from models import PLAIN, TRANSFORMERS, all_bits, bits, input_for, mlp, output, text, tied_llama, train, trained
from safetensors.torch import save_file
from torch import nn

import lottapack
from lottapack import rng
from lottapack.errors import BackboneChangedWarning, CheckpointError
from lottapack.loading import load as loading
from lottapack.nn import AdapterLayer, recipe_of

NAMES = [*PLAIN, *TRANSFORMERS]


def plain_bits(model):
    return {name: bits(tensor) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_models_come_back_bit_for_bit(name, tmp_path):
    model, path = trained(name), tmp_path / "a.lotta.safetensors"
    result = lottapack.pack(model, path)
    assert (result.path, result.size, result.stored_instead) == (path, path.stat().st_size, {})
    loaded = lottapack.load(path, check_fingerprints=True)
    assert all_bits(loaded) == all_bits(model)
    assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
        n: p.requires_grad for n, p in model.named_parameters()
    }
    assert not loaded.training
    given = input_for(name)
    assert bits(output(loaded, given)) == bits(output(model, given))
    merged = lottapack.load(path, merge=True)
    assert torch.allclose(output(merged, given), output(model, given), rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, AdapterLayer) for module in merged.modules())
    assert not lottapack.nn.is_scaffolded(merged)


@pytest.mark.parametrize("name", NAMES)
def test_one_model_has_one_file(name, tmp_path):
    model = trained(name)
    for number in (1, 2):
        lottapack.pack(model, tmp_path / f"{number}")
    lottapack.pack(lottapack.load(tmp_path / "1"), tmp_path / "3")
    lottapack.pack(model.state_dict(), tmp_path / "4")
    assert len({(tmp_path / f"{number}").read_bytes() for number in (1, 2, 3, 4)}) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["mlp", "cnn", "llama"])
def test_half_precision_models_come_back(name, dtype, tmp_path):
    plain = tied_llama(dtype) if name == "llama" else PLAIN[name]().to(dtype)
    model = train(lottapack.scaffold(plain, seed=3, rank=2))
    lottapack.pack(model, tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a", check_fingerprints=True)
    assert all_bits(loaded) == all_bits(model)
    given = input_for(name)
    given = given.to(dtype) if given.is_floating_point() else given
    assert bits(output(loaded, given)) == bits(output(model, given))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text", {"targets": "1", "train": ["heads"]}),
        ("text", {"targets": ["0", "5"], "train": ()}),
        ("llama", {"train": ["norms"]}),
        ("gpt2", {"targets": "c_attn", "train": ["rest"]}),
        ("cnn", {"targets": "0", "train": (), "distribution": "sign1", "scaling": "rslora", "beta": 1.0}),
        ("mlp", {"distribution": rng.custom("laplace", [-3.0, -0.5, 0.5, 3.0]), "rank": {"0": 3, "*": 1}}),
        ("mlp", {"persistent": True, "seed": 2**64 - 1}),
    ],
)
def test_every_choice_of_roles_comes_back(name, options, tmp_path):
    model = trained(name, **options)
    lottapack.pack(model, tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a", check_fingerprints=True)
    assert all_bits(loaded) == all_bits(model)
    assert bits(output(loaded, input_for(name))) == bits(output(model, input_for(name)))
    assert lottapack.verify(tmp_path / "a").ok
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, p in loaded.named_parameters() if not p.requires_grad}


def test_ties_come_back_as_ties(tmp_path):
    for name, options in [("llama", {}), ("llama", {"train": ["norms"]})]:
        lottapack.pack(trained(name, **options), tmp_path / "a")
        for merge in (False, True):
            loaded = lottapack.load(tmp_path / "a", merge=merge)
            assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    lottapack.pack(trained("text"), tmp_path / "b")
    loaded = lottapack.load(tmp_path / "b")
    assert loaded[1] is loaded[3]
    merged = lottapack.load(tmp_path / "b", merge=True)
    assert merged[1].weight is merged[3].weight


def test_odd_values_keep_their_bits(tmp_path):
    """NaN with a payload, minus zero, infinities and subnormals, in what is stored and in adapters."""
    model = trained("llama")
    odd = torch.tensor([0x7FC01234, -0x80000000, 0x7F800000, 1], dtype=torch.int32).view(torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight.view(-1)[:4] = odd
        model.model.layers[0].mlp.up_proj.lora_A.view(-1)[:4] = odd
    lottapack.pack(model, tmp_path / "a", allow_nonfinite=True)
    assert all_bits(lottapack.load(tmp_path / "a")) == all_bits(model)


def test_a_tensor_of_any_layout_is_packed_with_its_values(tmp_path):
    model = mlp()
    model[0].weight.data = torch._neg_view(-model[0].weight.data)
    model = train(lottapack.scaffold(model, seed=3, rank=2))
    expected = all_bits(model)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.data = torch._neg_view(-tensor.data)
            if tensor.numel() == 1:
                tensor.data = tensor.data.repeat(2)[::2][:1]  # of stride 2
    assert all(tensor.is_neg() for tensor in tensors.values() if tensor.is_floating_point() and tensor.numel() > 1)
    lottapack.pack(model, tmp_path / "live")
    lottapack.pack(model.state_dict(), tmp_path / "checkpoint")
    for path in ("live", "checkpoint"):
        assert all_bits(lottapack.load(tmp_path / path)) == expected


def test_loading_goes_on_to_training(tmp_path):
    lottapack.pack(trained("mlp"), tmp_path / "a")
    model = lottapack.load(tmp_path / "a").train()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    before = model[0].backbone.clone()
    model(input_for("mlp")).square().sum().backward()
    optimiser.step()
    assert bits(model[0].backbone) == bits(before)
    lottapack.pack(model, tmp_path / "b")
    assert all_bits(lottapack.load(tmp_path / "b")) == all_bits(model.eval())
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_dtype_converts_what_was_recorded(dtype, tmp_path):
    model = trained("cnn")
    lottapack.pack(model, tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a", dtype=dtype)
    expected = {k: bits(v.to(dtype) if v.is_floating_point() else v) for k, v in model.state_dict().items()}
    assert {**plain_bits(loaded), "lottapack_recipe": None} == {**expected, "lottapack_recipe": None}
    assert bits(loaded[0].backbone) == bits(model[0].backbone.to(dtype))
    if dtype == torch.float64:
        with pytest.raises(CheckpointError, match=r"0\.weight is float64 now, but was float32"):
            lottapack.pack(loaded, tmp_path / "b")
        return
    lottapack.pack(loaded, tmp_path / "b")
    again = lottapack.load(tmp_path / "b")
    assert recipe_of(again).parameters["0.weight"].dtype == str(dtype).removeprefix("torch.")
    assert {**plain_bits(again), "lottapack_recipe": None} == {**expected, "lottapack_recipe": None}
    assert bits(again[0].backbone) == bits(loaded[0].backbone)


def test_arguments_of_load_are_checked(tmp_path):
    lottapack.pack(trained("mlp"), tmp_path / "a")
    for dtype in (torch.int32, torch.float8_e4m3fn, torch.complex64):
        with pytest.raises(lottapack.errors.UnsupportedError, match="cannot convert floating tensors to"):
            lottapack.load(tmp_path / "a", dtype=dtype)
    for device in ("nowhere", "meta"):
        with pytest.raises(lottapack.errors.UnsupportedError, match=device):
            lottapack.load(tmp_path / "a", device=device)
    with pytest.raises(lottapack.errors.LimitError, match="`max_bytes=100` allows"):
        lottapack.load(tmp_path / "a", max_bytes=100)
    assert lottapack.load(tmp_path / "a", max_bytes=10_000)


def test_threads_load_at_once(tmp_path):
    models = {name: trained(name) for name in ("mlp", "llama", "gpt2")}
    for name, model in models.items():
        lottapack.pack(model, tmp_path / name)
    found, barrier = [], threading.Barrier(6)

    def work(name):
        barrier.wait()
        found.append((name, all_bits(lottapack.load(tmp_path / name))))

    workers = [threading.Thread(target=work, args=[name]) for name in [*models] * 2]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 6
    assert all(state == all_bits(models[name]) for name, state in found)


def sharded(state, folder):
    names = sorted(state)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: state[name] for name in held}, folder / shard)
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def saved(save, name):
    def write(state, folder):
        save(state, folder / name)
        return folder / name

    return write


def in_folder(state, folder):
    save_file(state, folder / "model.safetensors")
    return folder


WAYS = {
    "state_dict": lambda state, folder: state,
    "torch.save": saved(torch.save, "model.pt"),
    "nested": saved(lambda state, path: torch.save({"epoch": 3, "model": {"net": state}}, path), "last.ckpt"),
    "safetensors": saved(save_file, "model.safetensors"),
    "folder": in_folder,
    "shards": sharded,
    "bin": lambda state, folder: saved(torch.save, "pytorch_model.bin")(state, folder).parent,
    "DDP": lambda state, folder: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state, folder: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_checkpoint_gives_the_same_file(way, tmp_path):
    model = trained("cnn")
    lottapack.pack(model, tmp_path / "expected")
    lottapack.pack(WAYS[way](model.state_dict(), tmp_path), tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_folder_that_transformers_saved_is_a_checkpoint(tmp_path):
    model = trained("llama")
    model.save_pretrained(tmp_path / "saved")
    lottapack.pack(tmp_path / "saved", tmp_path / "a")
    assert all_bits(lottapack.load(tmp_path / "a")) == all_bits(model)


def test_wrapped_models_pack_as_themselves(tmp_path):
    model = trained("mlp")
    lottapack.pack(model, tmp_path / "a")
    lottapack.pack(nn.ModuleDict({"module": model}), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_changed_backbone_is_stored_merged_and_named(tmp_path):
    model = trained("mlp")
    with torch.no_grad():
        model[0].backbone[3, 4] += 1
    expected = model[0].merged_weight()
    with pytest.warns(BackboneChangedWarning, match=r"1 frozen weights differ from what seed 42.*0\.weight") as warned:
        result = lottapack.pack(model, tmp_path / "a")
    assert warned[0].filename == __file__
    assert "rounding" not in str(warned[0].message)
    assert result.stored_instead == {"0.weight": 12 * 16 * 4}
    loaded = lottapack.load(tmp_path / "a")
    assert bits(loaded[0].weight) == bits(expected)
    assert type(loaded[0]) is nn.Linear
    assert isinstance(loaded[2], AdapterLayer)
    assert plain_bits(lottapack.load(tmp_path / "a", merge=True))["0.weight"] == bits(expected)
    frozen = trained("mlp", targets="0", train=())
    frozen[4].weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"4\.weight has NaN"):
        lottapack.pack(frozen, tmp_path / "b")
    with pytest.warns(BackboneChangedWarning):
        lottapack.pack(frozen, tmp_path / "b", allow_nonfinite=True)
    assert bits(lottapack.load(tmp_path / "b")[4].weight) == bits(frozen[4].weight)


def test_tied_copies_may_be_in_the_checkpoint_but_not_drift(tmp_path):
    state = {name: tensor.clone() for name, tensor in trained("llama").state_dict().items()}
    state["model.embed_tokens.weight"][0, 0] = state["lm_head.weight"][0, 0] = float("nan")
    lottapack.pack(state, tmp_path / "a", allow_nonfinite=True)
    only_copy = {name: tensor for name, tensor in state.items() if name != "model.embed_tokens.weight"}
    lottapack.pack(only_copy, tmp_path / "b", allow_nonfinite=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    state["lm_head.weight"][0, 1] += 1
    with pytest.raises(CheckpointError, match=r"lm_head\.weight was tied to model\.embed_tokens\.weight.*now differs"):
        lottapack.pack(state, tmp_path / "a")
    state = {name: tensor.clone() for name, tensor in trained("text").state_dict().items()}
    state["3.lora_A"][0, 0] += 1
    with pytest.raises(CheckpointError, match=r"3\.lora_A was tied to 1\.lora_A"):
        lottapack.pack(state, tmp_path / "a")


def test_buffers_of_every_dtype_are_kept(tmp_path):
    """Listed modules lack some of these dtypes, so read the file by its tensors."""
    generator = torch.Generator().manual_seed(0)
    kinds = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float64, torch.bfloat16)
    buffers = {str(kind): torch.randint(0, 2, (3, 5), generator=generator).to(kind) for kind in kinds}
    state = trained("mlp").state_dict()
    plan = json.loads(state["lottapack_recipe"].numpy().tobytes())
    for name, buffer in {**buffers, "empty": torch.empty(0, 4), "single": torch.tensor(True)}.items():
        state[name] = buffer
        plan["parameters"][name] = {"role": "stored", "group": "buffer", "trained": False}
    text = json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()
    state["lottapack_recipe"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    lottapack.pack(state, tmp_path / "a")
    from safetensors.torch import load_file

    written = load_file(lottapack.export(tmp_path / "a", tmp_path / "plain.safetensors"))
    for name, buffer in buffers.items():
        assert bits(written[name]) == bits(buffer)
    assert bits(written["single"]) == bits(torch.tensor(True))
    assert written["empty"].shape == (0, 4)
    with pytest.raises(lottapack.errors.ArchitectureError, match="does not have the packed parameters: empty, single"):
        lottapack.load(tmp_path / "a")


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "0.lora_B"), r"lacks 0\.lora_B"),
        (lambda s: without(s, "4.bias"), r"lacks 4\.bias"),
        (lambda s: without(s, "lottapack_recipe"), "does not contain a lottapack recipe"),
        (lambda s: {**s, "extra": torch.ones(2)}, "1 tensors that its recipe does not describe: extra"),
        (lambda s: {**s, "0.beta": torch.ones(2)}, r"0\.beta has shape \(2,\), but the recipe says \(1,\)"),
        (lambda s: {**s, "0.weight": torch.ones(2)}, r"0\.weight has shape \(2,\)"),
        (lambda s: {**s, "0.lora_A": s["0.lora_A"].double()}, r"0\.lora_A is torch\.float64"),
        (lambda s: {**s, "4.bias": s["4.bias"].to(torch.complex64)}, r"4\.bias is torch\.complex64"),
        (lambda s: {**s, "4.bias": s["4.bias"].to("meta")}, r"4\.bias is on the meta device"),
        (
            lambda s: {**s, "lottapack_recipe": s["lottapack_recipe"] * 0.5},
            "lottapack_recipe has dtype float32 and values",
        ),
        (lambda s: {**s, "lottapack_recipe": s["lottapack_recipe"] * torch.nan}, "values that are not bytes"),
        (
            lambda s: {**s, "lottapack_recipe": s["lottapack_recipe"].to(torch.complex64)},
            "lottapack_recipe has dtype complex",
        ),
        (
            lambda s: {name: tensor.to("meta") for name, tensor in s.items()},
            "lottapack_recipe has dtype uint8.* on meta",
        ),
        (lambda s: {**s, "more.lottapack_recipe": s["lottapack_recipe"]}, "2 models: .the top level., more"),
        (lambda s: {**s, "lottapack_recipe": s["lottapack_recipe"] ^ 1}, "recipe cannot be read"),
        (lambda s: {}, "does not contain a lottapack recipe"),
    ],
)
def test_faulty_checkpoints_are_refused(change, message, tmp_path):
    (tmp_path / "a").write_bytes(b"as before")
    with pytest.raises(CheckpointError, match=message):
        lottapack.pack(change(trained("mlp").state_dict()), tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"as before"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"lottapack_recipe":"1.0"', '"lottapack_recipe":"2.0"', r"version 2\.0"),
        ('"lottapack_recipe":"1.0",', '"lottapack_recipe":"1.0","more":1,', "cannot be read"),
        ("philox4x32-10", "philox4x32-07", r"breaks the format: rng\.id"),
        ("000000000000002a", "00000000000000-1", r"breaks the format: rng\.seed"),
        ("normal16", "normal99", "breaks the format: .*distribution"),
        ('"rank":2', '"rank":99', "breaks the format: .*rank"),
        ('"shape":[12,16]', '"shape":[12]', "breaks the format: .*shape"),
        ('"scale":0.25', '"scale":0.3', "breaks the format: .*scale"),
        ('"class":"ReLU"', '"class":"Exec"', "breaks the format: architecture"),
        ('"tables":{}', '"tables":{"own":{"bits":1,"values":"??"}}', "cannot be read"),
        ('"tables":{}', '"tables":{"own":{"bits":2,"values":"AACAPwAAAEA="}}', "'own' has 2 values; its bits need 2"),
        ('"group":"head"', '"group":"feet"', "breaks the format: .*group"),
    ],
)
def test_faulty_recipes_are_refused(old, new, message, tmp_path):
    state = trained("mlp").state_dict()
    plan = state["lottapack_recipe"].numpy().tobytes().decode()
    assert old in plan
    state["lottapack_recipe"] = torch.frombuffer(bytearray(plan.replace(old, new).encode()), dtype=torch.uint8)
    with pytest.raises(CheckpointError, match=message):
        lottapack.pack(state, tmp_path / "a")


class Code:
    def __reduce__(self):
        return print, ("a checkpoint ran code",)


def test_files_that_are_no_checkpoint_are_refused(tmp_path, capsys):
    torch.save({"model": Code()}, tmp_path / "code.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_bytes(b"no checkpoint")
    (tmp_path / "text.safetensors").write_bytes(b"no checkpoint")
    (tmp_path / "model.h5").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    expected = {
        "code.pt": "as tensors",
        "list.pt": "contains a list, not a state_dict",
        "text.pt": "as tensors",
        "text.safetensors": "as tensors",
        "model.h5": "unknown file type",
        "empty": "does not contain a checkpoint",
        "missing.pt": "no such file or folder",
    }
    for name, message in expected.items():
        with pytest.raises(CheckpointError, match=message):
            lottapack.pack(tmp_path / name, tmp_path / "a")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "../model.safetensors"}}', "a shard outside its folder"),
        ('{"weight_map": {"a": 3}}', "a shard outside its folder"),
        ('{"weight_map": {"a": ".."}}', "is missing"),
        ('{"weight_map": {"a": "gone.safetensors"}}', r"gone\.safetensors is missing"),
        ('{"weight_map": [1]}', "is not an index of shards"),
        ("[]", "is not an index of shards"),
        ("{", "is not an index of shards"),
    ],
)
def test_faulty_indices_are_refused(index, message, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=message):
        lottapack.pack(tmp_path, tmp_path / "a")


def test_models_that_cannot_be_packed_say_why(tmp_path):
    with pytest.raises(CheckpointError, match="does not contain a lottapack recipe"):
        lottapack.pack(mlp(), tmp_path / "a")
    with pytest.raises(CheckpointError, match="on meta"):
        lottapack.pack(trained("mlp").to("meta"), tmp_path / "a")


def test_progress_goes_up_to_the_whole(tmp_path):
    seen = []
    lottapack.pack(trained("text"), tmp_path / "a", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_padding_row_of_a_trained_embedding_stays_zero():
    model = lottapack.scaffold(text(), seed=1, rank=2)
    model(torch.tensor([[3, 3, 3, 3, 1]])).sum().backward()
    assert not model[0].weight.grad[3].any()


def test_a_load_that_fails_leaves_no_tensors_behind(tmp_path):
    path = tmp_path / "a"
    lottapack.pack(trained("mlp"), path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)

    def count():
        return sum(type(held) in (torch.Tensor, nn.Parameter) for held in gc.get_objects())

    with pytest.raises(lottapack.errors.IntegrityError):
        lottapack.load(path)
    gc.collect()
    gc.disable()
    try:
        before = count()
        with pytest.raises(lottapack.errors.IntegrityError):
            lottapack.load(path)
        end = time.monotonic() + 10  # a thread releases its task after it reports its end
        while count() != before and time.monotonic() < end:
            time.sleep(0.01)
        assert count() == before
    finally:
        gc.enable()


def test_a_load_that_fails_before_it_reads_ends_its_threads(tmp_path, monkeypatch):
    path = lottapack.pack(trained("mlp"), tmp_path / "a").path
    lottapack.load(path)  # starts the threads that a process keeps

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(loading, "stored_memory", no_memory)
    before = threading.active_count()
    with pytest.raises(MemoryError):
        lottapack.load(path)
    assert threading.active_count() == before


@pytest.mark.parametrize("most", [1, 20, 1 << 20])
def test_stored_tensors_are_read_in_batches_of_any_size(most, tmp_path, monkeypatch):
    model = trained("llama")
    path = lottapack.pack(model, tmp_path / "a").path
    monkeypatch.setattr(loading, "_BATCH", most)
    assert all_bits(lottapack.load(path)) == all_bits(model)
    wide = lottapack.load(path, dtype=torch.float64)
    assert [bits(p) for p in wide.parameters()] == [bits(p.double()) for p in model.parameters()]
