"""export(), report() and inspect() of packs whose numbers are known by hand."""

import json

import pytest
import torch
from models import PLAIN, TRANSFORMERS, bits, input_for, output, trained
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import lottapack
from lottapack import errors, rng


def packed(name, folder, model=None, **options):
    path = folder / f"{name}.lotta.safetensors"
    lottapack.pack(trained(name, **options) if model is None else model, path)
    return path


@pytest.mark.parametrize("name", [*PLAIN, *TRANSFORMERS])
def test_exports_load_into_the_plain_model(name, tmp_path):
    path = packed(name, tmp_path)
    written = lottapack.export(path, tmp_path / "plain.safetensors")
    assert written == tmp_path / "plain.safetensors"
    merged = lottapack.load(path, merge=True)
    plain = {**PLAIN, **TRANSFORMERS}[name]()
    plain.load_state_dict(load_file(written), strict=True)
    expected = {key: bits(tensor) for key, tensor in merged.state_dict().items()}
    assert {key: bits(tensor) for key, tensor in plain.state_dict().items()} == expected
    assert bits(output(plain.eval(), input_for(name))) == bits(output(merged, input_for(name)))
    again = lottapack.export(path, tmp_path / "again.safetensors")
    assert again.read_bytes() == written.read_bytes()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_folders_open_with_from_pretrained(name, tmp_path):
    model, folder = trained(name), tmp_path / "folder"
    path = packed(name, tmp_path, model)
    assert lottapack.export(path, folder, format="transformers") == folder / "model.safetensors"
    opened, info = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert torch.allclose(output(opened.eval(), input_for(name)), output(model, input_for(name)), rtol=1e-3, atol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == ([type(model).__name__], "float32")
    assert sorted(item.name for item in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_only_the_plain_file_repeats_what_is_tied(tmp_path):
    path = packed("llama", tmp_path)
    with safe_open(lottapack.export(path, tmp_path / "plain.safetensors"), "pt") as file:
        assert {"lm_head.weight", "model.embed_tokens.weight"} <= set(file.keys())
        assert file.metadata() == {"format": "pt"}
    with safe_open(lottapack.export(path, tmp_path / "folder", format="transformers"), "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 (safe_open is no mapping)
    opened = type(trained("llama")).from_pretrained(tmp_path / "folder")
    assert opened.lm_head.weight is opened.model.embed_tokens.weight


def test_dtype_converts_the_merged_weights(tmp_path):
    path = packed("cnn", tmp_path)
    merged = lottapack.load(path, merge=True).state_dict()
    for dtype in (torch.bfloat16, torch.float64):
        written = load_file(lottapack.export(path, tmp_path / "plain.safetensors", dtype=dtype))
        expected = {key: bits(t.to(dtype) if t.is_floating_point() else t) for key, t in merged.items()}
        assert {key: bits(tensor) for key, tensor in written.items()} == expected
    llama = packed("llama", tmp_path)
    lottapack.export(llama, tmp_path / "folder", format="transformers", dtype=torch.float16)
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["dtype"] == "float16"


def test_outputs_may_be_files_or_folders(tmp_path):
    path = packed("mlp", tmp_path)
    (tmp_path / "there").mkdir()
    for given in (tmp_path / "there", f"{tmp_path}/new/"):
        written = lottapack.export(path, given)
        assert written.name == "model.safetensors"
        assert written.is_file()
    assert lottapack.export(path, tmp_path / "file") == tmp_path / "file"


def test_impossible_exports_are_refused_and_change_nothing(tmp_path):
    path = packed("mlp", tmp_path)
    (tmp_path / "old").write_bytes(b"as before")
    cases = [
        (
            {"dtype": torch.float8_e4m3fn},
            errors.UnsupportedError,
            "cannot convert .* to float8_e4m3fn",
        ),
        ({"dtype": torch.int8}, errors.UnsupportedError, "cannot convert floating tensors to int8"),
        (
            {"format": "transformers"},
            errors.UnsupportedError,
            "holds a torch.nn model, not a transformers model",
        ),
        ({"device": "nowhere"}, errors.UnsupportedError, "'nowhere'"),
        ({"max_bytes": 10}, errors.LimitError, "`max_bytes=10` allows"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            lottapack.export(path, tmp_path / "old", **options)
    for target in (tmp_path / "none" / "file", tmp_path / "none" / "folder" / ""):
        with pytest.raises(errors.OutputError, match=r"cannot (write|make)"):
            lottapack.export(path, target)
    with pytest.raises(errors.OutputError, match="cannot create the folder"):
        lottapack.export(packed("gpt2", tmp_path), tmp_path / "old", format="transformers")
    assert (tmp_path / "old").read_bytes() == b"as before"


def test_progress_of_an_export_ends_at_the_whole(tmp_path):
    seen = []
    path = packed("mlp", tmp_path)
    lottapack.export(path, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    total = sum(parameter.numel() for parameter in PLAIN["mlp"]().parameters()) * 4
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def small(path, **options):
    """Adapted 64 -> 40 (rank 2), stored head 40 -> 10, biases of 40 and 10: 3,010 weights."""
    model = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    lottapack.pack(lottapack.scaffold(model, seed=1, rank=2, **options), path)
    return path


ADAPTER = 4 * (2 * 64 + 40 * 2 + 1)
HEAD, BIASES = 4 * 400, 4 * 50


def test_report_by_hand(tmp_path):
    path = small(tmp_path / "a")
    (tmp_path / "old.pt").write_bytes(bytes(12345))
    size = path.stat().st_size
    report = lottapack.report(path, against=tmp_path / "old.pt")
    assert (report.path, report.size, report.numel) == (path, size, 3010)
    assert report.bits_per_weight == 8 * size / 3010
    assert {row.label: row.size for row in report.forms} == {
        "this pack": size,
        "old.pt": 12345,
        "float32": 4 * 3010,
        "fp16": 2 * 3010,
        "8-bit": 2560 + 2 * 80 + 400 + 2 * 13 + 2 * 50,
        "4-bit": 1280 + 2 * 80 + 200 + 2 * 13 + 2 * 50,
    }
    assert [row.ratio for row in report.forms] == [row.size / size for row in report.forms]
    assert report.forms[1].seconds == {10: 12345 * 8 / 1e7, 100: 12345 * 8 / 1e8, 1000: 12345 * 8 / 1e9}
    descriptor = size - ADAPTER - HEAD - BIASES
    assert report.by_group == {"adapters": ADAPTER, "heads": HEAD, "biases": BIASES, "descriptor": descriptor}
    roles = {"adapted": ADAPTER, "stored": HEAD + BIASES, "seeded": 0, "constant": 0, "tied": 0}
    assert report.by_role == {**roles, "descriptor": descriptor}
    assert report.bits_by_group == {"adapters": 32.0, "heads": 32.0, "biases": 32.0}
    assert report.saved == {"random weights": 4 * 2560, "adapters of these": -ADAPTER, "descriptor": -descriptor}


@pytest.mark.parametrize("name", [*PLAIN, *TRANSFORMERS])
def test_report_adds_up(name, tmp_path):
    path = packed(name, tmp_path)
    report = lottapack.report(path)
    assert sum(report.by_role.values()) == sum(report.by_group.values()) == report.size == path.stat().st_size
    merged = lottapack.load(path, merge=True)
    held = {id(tensor): tensor for tensor in merged.state_dict(keep_vars=True).values()}
    sizes = {row.label: row.size for row in report.forms}
    assert sizes["float32"] == sum(tensor.nbytes for tensor in held.values())
    assert report.numel == lottapack.inspect(path).numel == sum(tensor.numel() for tensor in held.values())
    assert sizes["float32"] - sum(report.saved.values()) == report.size


def test_report_counts_tables_of_the_packs_own(tmp_path):
    report = lottapack.report(small(tmp_path / "a", distribution=rng.custom("own", [-1.0, 0.0, 0.0, 1.0])))
    assert report.by_role["tables"] == report.by_group["tables"] == 16
    assert sum(report.by_role.values()) == report.size


def test_report_measures_folders(tmp_path):
    path = small(tmp_path / "a")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, size in (("b.safetensors", 10), ("c.safetensors", 20), ("pytorch_model.bin", 40), ("config.json", 80)):
        (folder / name).write_bytes(bytes(size))
    assert {row.label: row.size for row in lottapack.report(path, against=folder).forms}["folder"] == 30
    (tmp_path / "empty").mkdir()
    for missing in ("none", "empty"):
        with pytest.raises(errors.CheckpointError, match="does not contain a checkpoint"):
            lottapack.report(path, against=tmp_path / missing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_inspect_reads_the_betas(dtype, tmp_path):
    model = lottapack.scaffold(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)).to(dtype), seed=255, rank=3, alpha=1.5)
    with torch.no_grad():
        model[0].beta.fill_(-0.3)
    lottapack.pack(model, tmp_path / "a")
    summary = lottapack.inspect(tmp_path / "a")
    found = {parameter.name: parameter for parameter in summary.parameters}["0.weight"]
    assert found.beta == model[0].beta.item()
    assert (found.role, found.shape, found.dtype) == ("adapted", (8, 8), str(dtype).removeprefix("torch."))
    assert (found.rank, found.alpha, found.scaling, found.beta_learned) == (3, 1.5, "lora", True)
    assert (summary.seed, summary.rng, summary.family) == ("00000000000000ff", "philox4x32-10", "torch.nn")
    assert summary.trained == sum(parameter.numel() for parameter in model.parameters())


def test_inspect_shows_every_role(tmp_path):
    path = packed("text", tmp_path, targets="1", train=["heads"], beta=1.0)
    found = {parameter.name: parameter for parameter in lottapack.inspect(path).parameters}
    assert {name: parameter.role for name, parameter in found.items()} == {
        "0.weight": "seeded",
        "1.bias": "constant",
        "1.weight": "adapted",
        "3.bias": "tied",
        "3.weight": "tied",
        "5.bias": "constant",
        "5.weight": "stored",
    }
    assert (found["1.weight"].beta, found["1.weight"].beta_learned) == (1.0, False)
    assert found["3.weight"].to == "1.weight"
    assert (found["5.weight"].group, found["5.weight"].trained) == ("head", True)


def test_verify_names_what_failed(tmp_path):
    path = small(tmp_path / "a")
    good = lottapack.verify(path)
    assert good.ok
    assert {check.what for check in good.checks} == {"format", "sha256", "fingerprint", "architecture"}
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    bad = lottapack.verify(path)
    assert not bad.ok
    assert [(check.what, check.status) for check in bad.checks if check.status != "ok"] == [("sha256", "failed")]
    assert bad.sha256 != good.sha256
