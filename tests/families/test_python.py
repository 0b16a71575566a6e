"""The family ``python``: imports, refusals, and equality of the rebuilt model."""

import copy
import json
import subprocess
import sys
import threading

import pytest
import torch
from family_packs import PACKAGE

import lottapack
from lottapack import arch
from lottapack.arch.trust import allowing, is_allowed
from lottapack.errors import ArchitectureError, NotAllowedError, ScaffoldError, UnsupportedError

NETS = f"{PACKAGE}.nets"


def imported(package):
    return {path.stem for path in package.glob("*.imported")}


def same_state(one, other):
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor.view(torch.uint8), second[name].view(torch.uint8)), name


def build(name, **arguments):
    return lottapack.build("python", f"{NETS}:{name}", **arguments)


def test_a_rebuilt_model_is_the_same(package, tmp_path):
    model = build("Net", width=8, norm=(4, 1), options={"class": f"{NETS}:Options", "config": {"depth": [1, 2]}})
    assert type(model.options).__name__ == "Options"
    assert model.options.depth == [1, 2]
    lottapack.scaffold(model, seed=3, rank=2, train=["heads", "biases"])
    torch.nn.init.normal_(model.body.lora_B)
    path = lottapack.pack(model, tmp_path / "net.lotta.safetensors").path
    again = lottapack.load(path, allow=PACKAGE)
    same_state(model, again)
    x = torch.randn(5, 8)
    assert torch.equal(model.eval()(x), again(x))
    merged = lottapack.load(path, allow=[PACKAGE], merge=True, check_fingerprints=True)
    assert torch.equal(merged.body.weight, model.body.merged_weight())
    assert torch.equal(merged.positions, model.positions)
    assert torch.equal(merged.offset, model.offset)
    assert lottapack.pack(again, tmp_path / "again.lotta.safetensors").path.read_bytes() == path.read_bytes()
    assert lottapack.pack(copy.deepcopy(model), tmp_path / "copy.lotta.safetensors").size == path.stat().st_size


def test_a_pack_says_what_it_needs_(net_pack, package):
    summary = lottapack.inspect(net_pack)
    assert (summary.family, summary.architecture) == ("python", f"{NETS}:Net")
    assert summary.config == {"width": 8, "norm": {"tuple": [4, 1]}}
    assert summary.allow == (PACKAGE,)
    assert imported(package) == set()


def test_other_families_need_no_leave(tmp_path):
    model = lottapack.scaffold(torch.nn.Sequential(torch.nn.Linear(4, 4)), seed=1, rank=1, train="biases")
    path = lottapack.pack(model, tmp_path / "p.lotta.safetensors").path
    assert lottapack.inspect(path).allow == ()


@pytest.mark.parametrize("allow", [(), "torch", ["ncps"], [NETS[:-1]], [f"{NETS}.Net"], [f"{PACKAGE}.other"]])
def test_what_is_not_allowed_is_not_imported(net_pack, package, allow):
    with pytest.raises(NotAllowedError, match=f"needs to import {NETS}, which `allow` does not include") as caught:
        lottapack.load(net_pack, allow=allow)
    assert f"allow=['{PACKAGE}']" in caught.value.hint

    assert imported(package) == set()
    assert PACKAGE not in sys.modules


@pytest.mark.parametrize("allow", [PACKAGE, [NETS], ["ncps", PACKAGE]])
def test_a_name_allows_what_is_inside(net_pack, package, allow):
    assert type(lottapack.load(net_pack, allow=allow)).__name__ == "Net"
    assert "nets" in imported(package)


@pytest.mark.parametrize("allow", ["*", "torch.*", "", "a b", "torch:nn", "os,sys", [3], "-x", "../x"])
def test_allow_takes_names_and_nothing_else(net_pack, allow):
    with pytest.raises(NotAllowedError, match="is not the name of a package or module"):
        lottapack.load(net_pack, allow=allow)


def test_allowing_holds_for_one_call_and_one_thread():
    seen = []
    with allowing(["a.b"]):
        assert [is_allowed(name) for name in ("a.b", "a.b.c", "a", "a.bc", "b")] == [True, True, False, False, False]
        with allowing(()):
            assert not is_allowed("a.b")
        thread = threading.Thread(target=lambda: seen.append(is_allowed("a.b")))
        thread.start()
        thread.join()
    assert seen == [False]
    assert not is_allowed("a.b")


def test_a_load_inside_a_load_does_not_inherit(net_pack):
    with allowing(PACKAGE), pytest.raises(NotAllowedError):
        lottapack.load(net_pack)


def test_classes_among_arguments_need_permission_too(package, pack_of):
    node = {"class": "subprocess:Popen", "config": {"args": ["touch", str(package / "owned")]}}
    path = pack_of(f"{NETS}:Net", {"width": 4, "options": [{"tuple": [{"x": node}]}]})
    assert lottapack.inspect(path).allow == (PACKAGE, "subprocess")
    with pytest.raises(NotAllowedError, match="needs to import subprocess, which"):
        lottapack.load(path, allow=PACKAGE)
    assert imported(package) == set()
    assert not (package / "owned").exists()


@pytest.mark.parametrize(("name", "home"), [("Linear", "torch.nn.modules.linear"), ("Popen", "subprocess")])
def test_an_allowed_module_does_not_lend_its_imports(package, pack_of, name, home):
    owned = package / "owned"
    config = {"args": ["touch", str(owned)]} if name == "Popen" else {"in_features": 4, "out_features": 4}
    for path in (
        pack_of(f"{NETS}:{name}", config),
        pack_of(f"{NETS}:Net", {"width": {"class": f"{NETS}:{name}", "config": config}}),
    ):
        with pytest.raises(NotAllowedError, match=f"is the class {name} of {home}, which"):
            lottapack.load(path, allow=PACKAGE)
    assert not owned.exists()


@pytest.mark.parametrize(
    ("path", "kind", "match"),
    [
        (f"{NETS}:function", ArchitectureError, "is a function, not a class"),
        (f"{NETS}:value", ArchitectureError, "is a int, not a class"),
        (f"{NETS}:os", ArchitectureError, "is a module, not a class"),
        (f"{NETS}:subprocess", ArchitectureError, "is a module, not a class"),
        (f"{NETS}:Options", ArchitectureError, "is not a torch.nn.Module"),
        (f"{NETS}:Liar", ArchitectureError, "returns a str, not a torch.nn.Module"),
        (f"{NETS}:Nothing", ArchitectureError, f"{NETS} does not define 'Nothing'"),
        (
            f"{PACKAGE}.nowhere:Net",
            ArchitectureError,
            f"the installed {PACKAGE} does not have the module {PACKAGE}.nowhere",
        ),
        (
            f"{PACKAGE}.broken:Net",
            UnsupportedError,
            f"{PACKAGE}, and that needs a_package_that_nobody_has, which is not",
        ),
        (f"{PACKAGE}.raises:Net", ArchitectureError, "RuntimeError: not today"),
        (f"{NETS}:Net", ArchitectureError, "unexpected keyword argument 'depth'"),
    ],
)
def test_what_is_found_must_be_a_module_class(package, pack_of, path, kind, match):
    with pytest.raises(kind, match=match):
        lottapack.load(pack_of(path, {"depth": 1} if path.endswith(":Net") else {}), allow=PACKAGE)


def test_torch_allowed_gives_no_function(pack_of):
    with pytest.raises(ArchitectureError, match="is a function, not a class"):
        lottapack.load(pack_of("torch.hub:load", {"repo_or_dir": "a/b", "model": "c"}), allow="torch")


def test_a_missing_package_is_named(pack_of):
    path = pack_of("a_package_that_nobody_has.models:Net", {})
    with pytest.raises(
        UnsupportedError, match="needs the package a_package_that_nobody_has, which is not inst"
    ) as caught:
        lottapack.load(path, allow="a_package_that_nobody_has")
    assert "pip install a_package_that_nobody_has" in caught.value.hint
    (skipped,) = (
        c for c in lottapack.verify(path, allow="a_package_that_nobody_has").checks if c.what == "architecture"
    )
    assert skipped.status == "skipped"
    assert "pip install" in skipped.detail


def test_verify_checks_all_else_without_the_code(net_pack, package):
    outcome = lottapack.verify(net_pack)
    assert outcome.ok
    assert {check.what for check in outcome.checks if check.status == "ok"} == {"format", "sha256", "fingerprint"}
    (skipped,) = (check for check in outcome.checks if check.what == "architecture")
    assert skipped.status == "skipped"
    assert f"needs to import {NETS}" in skipped.detail
    assert imported(package) == set()
    assert all(check.status == "ok" for check in lottapack.verify(net_pack, allow=PACKAGE).checks)


def test_packing_and_exporting_need_no_code(net_pack, package, tmp_path):
    lottapack.export(net_pack, tmp_path / "plain.safetensors")
    assert imported(package) == set()
    state = lottapack.load(net_pack, allow=PACKAGE).state_dict()
    torch.save(state, tmp_path / "net.pt")
    script = (
        f"import lottapack; lottapack.pack({str(tmp_path / 'net.pt')!r}, {str(tmp_path / 'b.lotta.safetensors')!r})"
    )
    for mark in package.glob("*.imported"):
        mark.unlink()
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    assert imported(package) == set()
    assert (tmp_path / "b.lotta.safetensors").read_bytes() == net_pack.read_bytes()


def test_a_folder_for_from_pretrained_is_refused(net_pack, tmp_path):
    for form in ("transformers", "transformers-pack"):
        with pytest.raises(UnsupportedError, match="holds a python model, not a transformers model"):
            lottapack.export(net_pack, tmp_path / "folder", format=form)
    assert not (tmp_path / "folder").exists()


def test_what_differs_each_time_is_refused(package):
    with pytest.raises(ArchitectureError, match=r"rebuilding .*:Dice gives a different noise, which no checkpoint"):
        lottapack.scaffold(build("Dice"), seed=1, rank=1)
    with pytest.raises(ArchitectureError, match="cannot compute noise without weights"):
        lottapack.scaffold(build("Drawn"), seed=1, rank=1)


@pytest.mark.parametrize(
    ("name", "match"),
    [("Extra", "a pack cannot hold _extra_state of the state_dict"), ("Lazy", "does not have a shape yet")],
)
def test_what_has_no_tensors_yet_is_refused(package, name, match):
    with pytest.raises(ArchitectureError, match=match):
        lottapack.scaffold(build(name), seed=1, rank=1)


def test_a_changed_model_is_refused(package):
    model = build("Net", width=4)
    model.more = torch.nn.Linear(2, 2)
    with pytest.raises(ArchitectureError, match="gives different tensors: more"):
        lottapack.scaffold(model, seed=1, rank=1)


def test_constants_of_a_module_keep_their_values(net_pack):
    """The package is first imported while the skeleton is built."""
    lottapack.load(net_pack, allow=PACKAGE)
    assert sys.modules[NETS].REAL.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("family", "path", "arguments", "match"),
    [
        ("keras", "a:B", {}, "only builds models of the families python and timm"),
        ("torch.nn", "Linear", {}, "only builds models"),
        ("python", "__main__:Net", {}, "without leading underscores"),
        ("python", "torch.nn.Linear", {}, 'should have the form "package.module:Class"'),
        ("python", "torch.nn:Linear", {"in_features": torch.zeros(1)}, "cannot be described as data"),
        ("python", "torch.nn:Linear", {"in_features": {3: 4}}, "cannot be described as data"),
        (
            "python",
            "torch.nn:Linear",
            {"bias": float("nan")},
            "cannot write the configuration of this torch.nn",
        ),
        ("python", "torch.nn:Linear", {"_x": 1}, "is not a valid argument name"),
        ("python", "torch.nn:Linear", {"bias": {"class": 1}}, "may have the keys tuple and class"),
        ("python", "torch.nn:Linear", {"in_features": 1}, "missing 1 required positional argument"),
        ("timm", "resnet18", {"pretrained": True}, "a pack cannot set this argument"),
    ],
)
def test_what_cannot_be_built_by_name(family, path, arguments, match):
    with pytest.raises(ArchitectureError, match=match):
        lottapack.build(family, path, **arguments)


@pytest.mark.parametrize("activation", [torch.nn.functional.relu, {"class": "torch.nn.functional:relu"}])
def test_a_function_or_class_is_an_argument(activation, tmp_path):
    layer = lottapack.build("python", "torch.nn:TransformerEncoderLayer", d_model=8, nhead=2, activation=activation)
    model = lottapack.build(
        "python",
        "torch.nn:TransformerEncoder",
        encoder_layer={
            "class": "torch.nn:TransformerEncoderLayer",
            "config": {"d_model": 8, "nhead": 2, "activation": activation, "dim_feedforward": 12},
        },
        num_layers=2,
        enable_nested_tensor=False,
    )
    assert layer.activation is torch.nn.functional.relu
    lottapack.scaffold(model, seed=1, rank=2)
    path = tmp_path / "f.lotta.safetensors"
    lottapack.pack(model, path)
    with pytest.raises(NotAllowedError, match="torch"):
        lottapack.load(path)
    loaded = lottapack.load(path, allow="torch")
    assert loaded.layers[0].activation is torch.nn.functional.relu
    x = torch.randn(3, 1, 8)
    assert torch.equal(loaded(x), model.eval()(x))
    block = lottapack.build("python", "torch.nn:TransformerEncoderLayer", d_model=8, nhead=2, activation=torch.nn.GELU)
    assert block.activation is torch.nn.GELU


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("torch.nn.functional:relu", "is a function, not a class"),
        ("os:system", "not a class or a function of Python"),
        ("torch:float32", "not a class or a function of Python"),
        ("torch.nn:Nothing", "does not define 'Nothing'"),
    ],
)
def test_only_classes_and_functions_are_arguments(path, match):
    arguments = {"d_model": 8, "nhead": 2, "activation": {"class": path, "config": {}}}
    with pytest.raises(ArchitectureError, match=match):
        lottapack.build("python", "torch.nn:TransformerEncoderLayer", **arguments)


def test_a_class_that_was_to_be_itself_is_told_apart_from_an_object():
    arguments = {"d_model": 8, "nhead": 2, "activation": {"class": "torch.nn:Linear", "config": {}}}
    with pytest.raises(ArchitectureError, match="missing 2 required positional") as caught:
        lottapack.build("python", "torch.nn:TransformerEncoderLayer", **arguments)
    assert '{"class": "package.module:Class"}' in caught.value.hint


def test_a_class_is_named_where_it_lives(package):
    with pytest.raises(NotAllowedError, match=r"is the class Linear of torch\.nn\.modules\.linear") as caught:
        build("Linear", in_features=2, out_features=2)
    assert "Name it as torch.nn.modules.linear:Linear" in caught.value.hint


def test_packs_of_torch_cpu_need_permission_to_draw(package, tmp_path):
    torch.manual_seed(5)
    model = build("Net", width=8)
    path = lottapack.pack(
        lottapack.recover.torch_cpu(model, seed=5, architecture=model, allow=PACKAGE),
        tmp_path / "cpu.lotta.safetensors",
    ).path
    with pytest.raises(NotAllowedError):
        lottapack.load(path)
    with pytest.raises(NotAllowedError):
        lottapack.export(path, tmp_path / "plain.safetensors")
    assert not (tmp_path / "plain.safetensors").exists()
    same_state(model, lottapack.load(path, allow=PACKAGE, merge=True))
    lottapack.export(path, tmp_path / "plain.safetensors", allow=PACKAGE)
    described = {"family": "python", "class": f"{NETS}:Net", "config": {"width": 8}}
    (tmp_path / "arch.json").write_text(json.dumps(described), "utf-8")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    options = {"seed": 5, "architecture": tmp_path / "arch.json"}
    with pytest.raises(NotAllowedError):
        lottapack.pack(lottapack.recover.torch_cpu(tmp_path / "model.pt", **options), tmp_path / "b.lotta.safetensors")
    lottapack.pack(
        lottapack.recover.torch_cpu(tmp_path / "model.pt", **options, allow=PACKAGE), tmp_path / "b.lotta.safetensors"
    )
    assert (tmp_path / "b.lotta.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(NotAllowedError):
        lottapack.pack(
            lottapack.recover.merged(tmp_path / "model.pt", seed=5, max_rank=1, architecture=options["architecture"]),
            tmp_path / "c",
        )


def test_what_describe_allows_is_what_the_model_is(package):
    model = build("Net", width=4)
    assert arch.packages(arch.describe(model)) == (PACKAGE,)
    assert not is_allowed(PACKAGE)


@pytest.mark.parametrize("name", ["python_class", "python_nested"])
def test_the_vectors_can_be_built_where_torch_is_allowed(name):
    from pathlib import Path

    folder = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"
    path = folder / f"{name}.lotta.safetensors"
    assert all(check.status == "ok" for check in lottapack.verify(path, allow="torch").checks)
    lottapack.load(path, allow="torch", merge=True, check_fingerprints=True)


@pytest.mark.parametrize("name", ["beta", "lora_A", "lora_B", "magnitude", "scaling", "adapter_rank", "lora_dropout"])
def test_an_adapter_takes_the_place_of_nothing(name, package, tmp_path):
    model = build("Clash", called=name)
    with pytest.raises(ScaffoldError, match=rf"adapter of body\.weight .* the layer's own {name}\n.*body\.{name}"):
        lottapack.scaffold(model, seed=1, rank=1, targets="body", beta=1.0)
    assert torch.equal(model.body.get_parameter(name), torch.ones(4))


def test_a_pack_whose_adapter_would_take_the_place_of_something_is_loaded_merged(package, tmp_path):
    """The pack is valid, but its layer cannot be trained."""
    model = lottapack.scaffold(build("Clash", called="extra"), seed=1, rank=1, targets="body")
    text = model.state_dict()["lottapack_recipe"].numpy().tobytes()
    renamed = bytearray(
        text.replace(b'"called":"extra"', b'"called":"scaling"').replace(b"body.extra", b"body.scaling")
    )
    state = {name.replace("extra", "scaling"): tensor for name, tensor in model.state_dict().items()}
    state["lottapack_recipe"] = torch.frombuffer(renamed, dtype=torch.uint8)
    path = lottapack.pack(state, tmp_path / "scaling.lotta.safetensors").path
    with pytest.raises(
        ArchitectureError, match=r"adapter of body\.weight would take the place of the layer's own scaling"
    ):
        lottapack.load(path, allow=PACKAGE)
    assert torch.equal(lottapack.load(path, allow=PACKAGE, merge=True).body.scaling, torch.ones(4))


def test_by_default_a_layer_with_such_an_attribute_is_trained_in_full(package, tmp_path):
    model = lottapack.scaffold(build("Clash", called="beta", size=8), seed=1, rank=2, train="biases")
    with torch.no_grad():
        model.body.beta.copy_(torch.arange(8.0))
    path = lottapack.pack(model, tmp_path / "beta.lotta.safetensors").path
    roles = {entry.name: entry.role for entry in lottapack.inspect(path).parameters}
    assert roles == {
        "body.beta": "stored",
        "body.bias": "stored",
        "body.weight": "stored",
        "head.bias": "stored",
        "head.weight": "adapted",
    }
    again = lottapack.load(path, allow=PACKAGE)
    assert torch.equal(again.body.beta, torch.arange(8.0))
    assert lottapack.pack(again, tmp_path / "again.lotta.safetensors").path.read_bytes() == path.read_bytes()
