"""Graphs of packed models in ONNX Runtime give torch's outputs, with weights from the pack or from a file."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from signing_keys import make_keys
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, InvalidReferenceError, SignatureError, UnsupportedError
from lottapack_cli.app import main

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.usefixtures("parsed_operators")

ROOT = Path(__file__).parents[2]
LIGHT = ROOT / ".venv-light" / "bin" / "python"


def trained(model: nn.Module, path: Path, **options: object) -> Path:
    """Write a pack of a model with nonzero adapters."""
    model = lottapack.scaffold(model, seed=3, rank=2, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    lottapack.pack(model, path)
    return path


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
    )


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=96, tie_word_embeddings=True,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def packs(tmp_path_factory, parsed_operators):
    """Write a folder for each model: its pack, a graph without weights, and the pack with the graph."""
    home = tmp_path_factory.mktemp("onnx")
    examples = {"cnn": (torch.zeros(2, 1, 8, 8),)}
    for make in (mlp, cnn, vit, llama):
        name = make.__name__
        pack = trained(make(), home / f"{name}.lotta.safetensors")
        lottapack.onnx.export(pack, home / name, weights="none", inputs=examples.get(name))
    return home


def difference(pack, session, inputs):
    """Return the largest difference between torch and the session, on another batch size than the trace's."""
    model = lottapack.load(pack, merge=True)
    with torch.no_grad():
        found = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    expected = found if isinstance(found, torch.Tensor) else found.logits
    names = [one.name for one in session.get_inputs()]
    arrays = (
        {key: value.numpy() for key, value in inputs.items()}
        if isinstance(inputs, dict)
        else {names[0]: inputs.numpy()}
    )
    got = session.run(None, arrays)[0]
    assert got.shape == tuple(expected.shape)
    return np.abs(got - expected.numpy()).max()


INPUTS = {
    "mlp": torch.linspace(-1, 1, 5 * 64).view(5, 64),
    "cnn": torch.linspace(-1, 1, 3 * 64).view(3, 1, 8, 8),
    "vit": {"pixel_values": torch.linspace(-1, 1, 3 * 768).view(3, 3, 16, 16)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_outputs_are_those_of_torch(packs, name):
    session = lottapack.onnx.session(packs / name / "model.lotta.safetensors")
    assert difference(packs / f"{name}.lotta.safetensors", session, INPUTS[name]) < 1e-5


def test_a_graph_beside_the_pack_will_do(packs):
    pack = packs / "mlp.lotta.safetensors"
    session = lottapack.onnx.session(pack, graph=packs / "mlp" / "model.onnx")
    assert difference(pack, session, INPUTS["mlp"]) < 1e-5


def written(session, prompt, count):
    """Return the tokens that a session writes greedily with its cache."""
    shapes = {one.name: one.shape for one in session.get_inputs() if "past_key_values" in one.name}
    past = {name: np.zeros((1, 2, 0, 8), np.float32) for name in shapes}
    names = [one.name for one in session.get_outputs()]
    tokens, given = list(prompt), np.array([prompt], np.int64)
    for _ in range(count):
        mask = np.ones((1, len(tokens)), np.int64)
        found = dict(zip(names, session.run(None, {"input_ids": given, "attention_mask": mask, **past}), strict=True))
        past = {name: found[name.replace("input.", "output.")] for name in past}
        tokens.append(int(found["logits"][0, -1].argmax()))
        given = np.array([tokens[-1:]], np.int64)
    return tokens[len(prompt) :]


def test_a_language_model_writes_the_same_tokens_over_its_cache(packs):
    pack, prompt = packs / "llama.lotta.safetensors", [1, 2, 3, 4, 5]
    model = lottapack.load(pack, merge=True)
    ids = torch.tensor([prompt])
    expected = model.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0)[0, 5:]
    session = lottapack.onnx.session(packs / "llama" / "model.lotta.safetensors")
    assert written(session, prompt, 20) == expected.tolist()


def test_the_graph_is_small_and_weights_are_in_the_pack_alone(packs):
    for name in (mlp, llama):
        graph = packs / name.__name__ / "model.onnx"
        model = onnx.load(graph, load_external_data=False)
        outside = {one.name for one in model.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL}
        with lottapack.open_pack(packs / f"{name.__name__}.lotta.safetensors") as pack:
            owners = {pack.descriptor.resolve(one) for one in pack.descriptor.parameters}
        assert outside == owners
        inside = sum(len(one.raw_data) for one in model.graph.initializer)
        assert inside < 1000


def test_the_pack_with_the_graph_is_the_same_model(packs):
    plain, held = packs / "mlp.lotta.safetensors", packs / "mlp" / "model.lotta.safetensors"
    assert lottapack.verify(held).ok
    first, second = (lottapack.load(one, merge=True).state_dict() for one in (plain, held))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_in_a_file_need_no_pack(packs, tmp_path):
    for name in ("mlp", "llama"):
        lottapack.onnx.export(packs / f"{name}.lotta.safetensors", tmp_path / name)
    session = runtime.InferenceSession(tmp_path / "mlp" / "model.onnx", providers=["CPUExecutionProvider"])
    assert difference(packs / "mlp.lotta.safetensors", session, INPUTS["mlp"]) < 1e-5
    session = runtime.InferenceSession(tmp_path / "llama" / "model.onnx", providers=["CPUExecutionProvider"])
    own = lottapack.onnx.session(packs / "llama" / "model.lotta.safetensors")
    assert written(session, [7, 8], 8) == written(own, [7, 8], 8)
    # The file holds a tied embedding once.
    assert (tmp_path / "llama" / "model.onnx.data").stat().st_size < 4 * 96 * 32 + 4 * 30_000


def test_float16_weights(packs, tmp_path):
    pack = packs / "mlp.lotta.safetensors"
    lottapack.onnx.export(pack, tmp_path, weights="none", dtype="float16")
    session = lottapack.onnx.session(tmp_path / "model.lotta.safetensors")
    (got,) = session.run(None, {session.get_inputs()[0].name: INPUTS["mlp"].half().numpy()})
    with torch.no_grad():
        expected = lottapack.load(pack, merge=True)(INPUTS["mlp"])
    assert np.abs(got - expected.numpy()).max() < 2e-2


def test_a_graph_in_bfloat16_names_the_dtype_that_runs(tmp_path):
    """ONNX Runtime has no product of matrices in bfloat16 on a CPU."""
    model = lottapack.scaffold(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)).to(torch.bfloat16), seed=1, rank=2)
    lottapack.pack(model, tmp_path / "m.lotta.safetensors")
    for dtype in ("bfloat16", "float32"):
        lottapack.onnx.export(tmp_path / "m.lotta.safetensors", tmp_path / dtype, weights="none", dtype=dtype)
    with pytest.raises(CheckpointError, match="ONNX Runtime refuses the graph") as caught:
        lottapack.onnx.session(tmp_path / "bfloat16" / "model.lotta.safetensors")
    assert 'dtype="float32"' in caught.value.hint
    lottapack.onnx.session(tmp_path / "float32" / "model.lotta.safetensors")


def test_where_torch_is_not(packs):
    if not LIGHT.is_file():
        pytest.skip("missing: .venv-light: make unit")
    code = """if True:
        import json, sys
        import numpy as np
        import lottapack
        found = lottapack.onnx.session(sys.argv[1])
        inputs = np.load(sys.argv[2])
        print(json.dumps(found.run(None, {found.get_inputs()[0].name: inputs})[0].tolist()))
        assert sys.modules.get("torch") is None
    """
    np.save(packs / "inputs.npy", INPUTS["mlp"].numpy())
    pack = packs / "mlp" / "model.lotta.safetensors"
    done = subprocess.run(
        [LIGHT, "-c", code, pack, packs / "inputs.npy"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = lottapack.load(pack, merge=True)(INPUTS["mlp"]).detach().numpy()
    assert np.abs(np.array(json.loads(done.stdout)) - expected).max() < 1e-5


def test_the_command_writes_both(packs, tmp_path, capsys):
    pack = str(packs / "mlp.lotta.safetensors")
    assert main(["export", pack, "-o", str(tmp_path / "a"), "--format", "onnx", "--weights", "none", "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).name == "model.onnx"
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"model.onnx", "model.lotta.safetensors"}
    assert main(["export", pack, "-o", str(tmp_path / "b"), "--weights", "none"]) == 2
    assert main(["export", pack, "-o", str(tmp_path / "b"), "--format", "onnx", "--device", "cuda"]) == 2


def test_a_model_without_an_example_says_so(tmp_path):
    pack = trained(cnn(), tmp_path / "cnn.lotta.safetensors")
    with pytest.raises(UnsupportedError, match="cannot choose an example input for a Sequential"):
        lottapack.onnx.export(pack, tmp_path / "out", weights="none")
    assert not (tmp_path / "out").exists()


def test_a_wrong_example_is_one_error(packs, tmp_path):
    with pytest.raises(CheckpointError, match="the exporter cannot trace a Sequential"):
        lottapack.onnx.export(packs / "mlp.lotta.safetensors", tmp_path / "out", inputs=(torch.zeros(2, 3),))
    assert not (tmp_path / "out").exists()


def test_a_pack_without_a_graph_says_so(packs):
    with pytest.raises(UnsupportedError, match="holds no graph"):
        lottapack.onnx.session(packs / "mlp.lotta.safetensors")


def test_another_models_graph_is_refused(packs):
    with pytest.raises(CheckpointError, match="another model"):
        lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=packs / "llama" / "model.onnx")


def changed(packs, tmp_path, change):
    """Return the changed graph of the digits model."""
    model = onnx.load(packs / "mlp" / "model.onnx", load_external_data=False)
    change(model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def elsewhere(model):
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "/etc/passwd"


def further(model):
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = "64"


def checksum(model):
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "checksum", "0"


def in_a_constant(model):
    tensor = onnx.TensorProto(name="secret", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["secret"], value=tensor))


def larger(model):
    model.graph.initializer[0].dims[0] += 1


def inside(model):
    first = model.graph.initializer[0]
    first.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(first.dims), np.float32), first.name))


def computed(model):
    first = model.graph.initializer.pop(0)
    held = onnx.numpy_helper.from_array(np.zeros(tuple(first.dims), np.float32))
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [first.name], value=held))


def sparse(model):
    first = model.graph.initializer.pop(0)
    values = onnx.helper.make_tensor(first.name, onnx.TensorProto.FLOAT, [1], [1.0])
    places = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, list(first.dims)))


def renamed(model):
    """Hold every weight, under names of its own, as other exporters do."""
    for number, tensor in enumerate(model.graph.initializer):
        for node in model.graph.node:
            node.input[:] = [f"onnx::{number}" if name == tensor.name else name for name in node.input]
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), f"onnx::{number}"))


def empty(model):
    del model.graph.node[:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (inside, "holds the weight"),
        (computed, "holds the weight"),
        (sparse, "holds the weight"),
        (renamed, "asks for none of its weights"),
    ],
)
def test_a_graph_with_weights_of_its_own_is_refused(packs, tmp_path, change, said):
    with pytest.raises(CheckpointError, match=said):
        lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=changed(packs, tmp_path, change))


def gigantic(model):
    """Sizes whose product has more digits than Python writes out."""
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**62] * 300)


def negative(model):
    for place, size in enumerate(model.graph.initializer[0].dims):
        model.graph.initializer[0].dims[place] = -size


def in_a_branch(model):
    held = onnx.TensorProto(name="z", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    branch = onnx.helper.make_graph([], "then", [], [], initializer=[held])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))


def in_a_function(model):
    held = onnx.TensorProto(name="z", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    node = onnx.helper.make_node("Constant", [], ["q"], value=held)
    model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[node]))


def in_training(model):
    held = onnx.TensorProto(name="z", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    model.training_info.add().initialization.initializer.append(held)


def texts(model):
    model.graph.initializer[0].data_type = onnx.TensorProto.STRING


@pytest.mark.parametrize(
    "change",
    [
        gigantic,
        negative,
        in_a_branch,
        in_a_function,
        in_training,
        texts,
        elsewhere,
        further,
        checksum,
        in_a_constant,
        larger,
        empty,
    ],
)
def test_hostile_graphs_are_refused(packs, tmp_path, change):
    with pytest.raises(CheckpointError):
        lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=changed(packs, tmp_path, change))


def test_what_is_not_a_graph_is_refused(packs, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(CheckpointError):
        lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=tmp_path / "a.onnx")


def long_name(model):
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
    model.graph.initializer[-1].name = "n" * 1_000_000


def long_place(model):
    for entry in model.graph.initializer[0].external_data:
        entry.value = "x" * 1_000_000


@pytest.mark.parametrize("change", [long_name, long_place])
def test_messages_about_graphs_are_short(packs, tmp_path, change):
    with pytest.raises(CheckpointError) as caught:
        lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=changed(packs, tmp_path, change))
    assert len(str(caught.value)) < 1000


def test_a_graph_is_not_run_as_the_runtimes_own_format(packs, tmp_path):
    """The runtime looks at four bytes, which may lie inside a text of a graph that is read as ONNX."""
    text = b"\0ORTM" + bytes(120)
    both = b"\x12" + bytes([len(text) & 127 | 128, len(text) >> 7]) + text
    graph = tmp_path / "both.onnx"
    graph.write_bytes(both + (packs / "mlp" / "model.onnx").read_bytes())
    assert onnx.load_model_from_string(graph.read_bytes()).graph.initializer
    with pytest.raises(CheckpointError, match="ONNX Runtime's own format"):
        lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=graph)


def test_paths_of_graphs_that_are_no_files(packs, tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in ("a\0b", tmp_path, tmp_path / "none.onnx", tmp_path / "pipe.onnx"):
        with pytest.raises((CheckpointError, InvalidReferenceError)):
            lottapack.onnx.session(packs / "mlp.lotta.safetensors", graph=path)


def test_a_provider_that_is_missing_is_refused(packs, capfd):
    for providers in (
        ["NoExecutionProvider"],
        ["CPUExecutionProvider", "NoExecutionProvider"],
        [("CPUExecutionProvider", {})],
        [],
    ):
        with pytest.raises(UnsupportedError, match="does not have the execution providers"):
            lottapack.onnx.session(packs / "mlp" / "model.lotta.safetensors", providers=providers)
    assert capfd.readouterr().out == ""


def test_a_graph_of_a_folder_is_not_taken_for_ours(tmp_path):
    """Other tools write model.onnx beside a checkpoint, with all weights in it."""
    model = lottapack.scaffold(llama(), seed=1, rank=2)
    model.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "model.onnx").write_bytes(b"weights")
    result = lottapack.pack(tmp_path / "saved", tmp_path / "m.lotta.safetensors")
    with lottapack.open_pack(result.path) as pack:
        assert "model.onnx" not in (pack.descriptor.files or {})


def test_a_required_signature_covers_the_graph_too(packs, tmp_path):
    """A signed pack vouches for the graph in it, and for no graph beside it."""
    pytest.importorskip("model_signing")
    keys, pack = make_keys(tmp_path / "keys"), tmp_path / "model.lotta.safetensors"
    shutil.copy(packs / "mlp" / pack.name, pack)
    lottapack.sign(pack, keys.private)
    own = packs / "mlp" / "model.onnx"
    for graph in (None, own):
        session = lottapack.onnx.session(pack, graph=graph, require_signature=keys.public)
        assert difference(packs / "mlp.lotta.safetensors", session, INPUTS["mlp"]) < 1e-5
    another = changed(packs, tmp_path, lambda model: model.graph.node.pop())
    with pytest.raises(SignatureError, match="the pack's signature does not cover it"):
        lottapack.onnx.session(pack, graph=another, require_signature=keys.public)
    plain = tmp_path / "plain.lotta.safetensors"
    shutil.copy(packs / "mlp.lotta.safetensors", plain)
    lottapack.sign(plain, keys.private)
    with pytest.raises(SignatureError, match="the pack's signature does not cover it"):
        lottapack.onnx.session(plain, graph=own, require_signature=keys.public)
    assert lottapack.onnx.session(plain, graph=own)


class Named(nn.Module):
    """Its weights have the names of its arguments, of a result, and of what the exporter would call a result."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.randn(8, 8))
        self.x = nn.Parameter(torch.randn(8))
        self.add = nn.Parameter(torch.randn(8))
        self.linear = nn.Linear(8, 8)

    def forward(self, x, mask):
        return (self.linear(x) @ self.mask + self.x * mask) + self.add


@pytest.mark.parametrize("weights", ["none", "file"])
def test_inputs_and_weights_of_one_name_are_kept_apart(tmp_path, weights):
    torch.manual_seed(0)
    model = lottapack.build("python", f"{__name__}:Named")
    pack = trained(model, tmp_path / "named.lotta.safetensors", targets="linear")
    given = (torch.linspace(-1, 1, 24).view(3, 8), torch.linspace(0, 2, 8))
    graph = lottapack.onnx.export(pack, tmp_path / "out", weights=weights, inputs=given, allow=__name__)
    if weights == "none":
        session = lottapack.onnx.session(graph.with_name("model.lotta.safetensors"))
    else:
        session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    assert names == ["x_input", "mask_input"]
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
    with torch.no_grad():
        expected = lottapack.load(pack, merge=True, allow=__name__)(*given)
    assert np.abs(found - expected.numpy()).max() < 1e-5


class Scaled(nn.Module):
    """A factor for all outputs, as CLIP has one."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.factor = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        return self.linear(x) * self.factor


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_single_number_in_bfloat16(tmp_path, dtype):
    model = lottapack.scaffold(
        lottapack.build("python", f"{__name__}:Scaled").to(torch.bfloat16), seed=1, rank=2, targets="linear"
    )
    lottapack.pack(model, tmp_path / "a", allow=__name__)
    given = torch.linspace(-1, 1, 24).view(3, 8).to(getattr(torch, dtype))
    graph = lottapack.onnx.export(
        tmp_path / "a", tmp_path / "out", weights="none", inputs=(given,), dtype=dtype, allow=__name__
    )
    session = lottapack.onnx.session(graph.with_name("model.lotta.safetensors"))
    (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
    with torch.no_grad():
        expected = lottapack.load(tmp_path / "a", merge=True, dtype=dtype, allow=__name__)(given)
    assert np.abs(found - expected.numpy()).max() < 1e-3
