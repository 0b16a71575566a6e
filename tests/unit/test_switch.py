"""Several scaffolds: switch() in place, packs that hold them, refusals."""

import copy
import json

import pytest
import torch
from models import all_bits, bits, cnn, input_for, mlp, output, text, tied_llama, train
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, ScaffoldError
from lottapack.nn import AdapterLayer, recipe_of
from lottapack_cli.app import main

SEEDS = {"task-b": 8, "c.3": 2**64 - 1}
BUILD = {"mlp": mlp, "cnn": cnn, "text": text, "llama": tied_llama}


def scaffolded(name="mlp", **options):
    return lottapack.scaffold(BUILD[name](), **{"seed": 7, "rank": 2, "scaffolds": SEEDS, **options})


def backbone(model):
    """The bits of the generated weights by name."""
    kinds = ("SeededRecipe", "AdaptedRecipe")
    names = [n for n, entry in recipe_of(model).parameters.items() if type(entry).__name__ in kinds]
    return {name: bits(buffer) for name, buffer in model.named_buffers(remove_duplicate=False) if name in names}


def places(model):
    """Where each parameter and buffer lies in memory."""
    return {n: t.data_ptr() for n, t in [*model.named_parameters(), *model.named_buffers()]}


def alone(seed, name="mlp", **options):
    """The backbone of the same model with one seed."""
    return backbone(lottapack.scaffold(BUILD[name](), **{"seed": seed, "rank": 2, **options}))


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("persistent", [False, True])
def test_each_scaffold_is_the_backbone_of_its_seed(name, persistent):
    model = scaffolded(name, persistent=persistent)
    held = places(model)
    learned = {n: bits(p) for n, p in model.named_parameters()}
    assert lottapack.nn.scaffolds_of(model) == {"default": 7, **SEEDS}
    for scaffold, seed in {**SEEDS, "default": 7}.items():
        lottapack.switch(model, scaffold)
        assert lottapack.nn.active_scaffold(model) == scaffold
        assert backbone(model) == alone(seed, name)
    assert places(model) == held
    assert {n: bits(p) for n, p in model.named_parameters()} == learned


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_converted_model_switches_to_what_is_generated_and_then_converted(dtype):
    model = scaffolded().to(dtype)
    lottapack.switch(model, "task-b")
    due = lottapack.scaffold(mlp(), seed=8, rank=2).to(dtype)
    assert backbone(model) == backbone(due)
    drawn_so = lottapack.switch(scaffolded().to(dtype), "task-b")
    assert drawn_so.previous == "default"


def test_with_goes_back_even_after_an_error():
    model = scaffolded()
    before = all_bits(model)
    with lottapack.switch(model, "task-b") as inside:
        assert inside is model
        with pytest.raises(ZeroDivisionError), lottapack.switch(model, "c.3"):
            _ = 1 / 0
        assert lottapack.nn.active_scaffold(model) == "task-b"
    assert all_bits(model) == before


def test_a_wrapped_and_a_copied_model_switch():
    model = scaffolded()
    wrapper = nn.Sequential(nn.Identity(), copy.deepcopy(model))
    lottapack.switch(wrapper, "task-b")
    assert backbone(wrapper[1]) == alone(8)
    assert backbone(model) == alone(7)
    assert lottapack.nn.active_scaffold(model) == "default"


def test_regenerate_stays_on_the_scaffold():
    model = scaffolded()
    lottapack.switch(model, "task-b")
    before = all_bits(model)
    with torch.no_grad():
        model[0].backbone.zero_()
    lottapack.nn.regenerate_(model)
    assert all_bits(model) == before


def test_a_backward_pass_over_another_scaffold_is_an_error():
    """Its gradients would belong to a backbone that the forward pass did not use."""
    model = scaffolded()
    loss = output_with_gradient(model)
    lottapack.switch(model, "task-b")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    output_with_gradient(model).backward()
    loss = output_with_gradient(model)
    lottapack.switch(model, "task-b")  # it is there already: nothing is written
    loss.backward()


def output_with_gradient(model):
    return model(input_for("mlp").requires_grad_()).square().sum()


def test_a_model_that_was_built_for_inference_switches():
    with torch.inference_mode():
        model = scaffolded()
        lottapack.switch(model, "task-b")
    assert backbone(model) == alone(8)


@pytest.mark.parametrize("name", BUILD)
def test_a_pack_holds_every_scaffold(name, tmp_path):
    model, path = train(scaffolded(name)), tmp_path / "a.lotta.safetensors"
    lottapack.pack(model, path)
    assert {check.status for check in lottapack.verify(path).checks} == {"ok"}
    given = input_for(name)
    for scaffold in ("task-b", "c.3", "default"):
        lottapack.switch(model, scaffold)
        loaded = lottapack.load(path, scaffold=scaffold, check_fingerprints=True)
        assert lottapack.nn.active_scaffold(loaded) == scaffold
        assert all_bits(loaded) == all_bits(model)
        assert bits(output(loaded, given)) == bits(output(model, given))
        lottapack.switch(loaded, "c.3")
        lottapack.switch(loaded, "default")
        assert all_bits(loaded) == all_bits(lottapack.load(path))
        merged = lottapack.load(path, scaffold=scaffold, merge=True)
        layers = {n: m for n, m in model.named_modules() if isinstance(m, AdapterLayer)}
        for layer, module in layers.items():
            assert bits(merged.get_submodule(layer).weight) == bits(module.merged_weight())


@pytest.mark.parametrize("persistent", [False, True])
def test_packing_does_not_depend_on_the_scaffold_a_model_is_on(persistent, tmp_path):
    model = train(scaffolded(persistent=persistent))
    files = []
    for number, scaffold in enumerate(("default", "task-b", "c.3")):
        lottapack.switch(model, scaffold)
        torch.save(model.state_dict(), tmp_path / "a.pt")
        for source in (model, tmp_path / "a.pt"):
            path = tmp_path / f"{number}"
            assert lottapack.pack(source, path).stored_instead == {}
            files.append(path.read_bytes())
    again = lottapack.load(tmp_path / "0", scaffold="task-b")
    lottapack.pack(again, tmp_path / "again")
    assert {*files, (tmp_path / "again").read_bytes()} == {files[0]}


def test_a_backbone_of_two_scaffolds_is_a_changed_one(tmp_path):
    model = train(scaffolded())
    with torch.no_grad():
        model[2].backbone.copy_(lottapack.scaffold(mlp(), seed=8, rank=2)[2].backbone)
    with pytest.warns(lottapack.errors.BackboneChangedWarning):
        result = lottapack.pack(model, tmp_path / "a")
    assert [*result.stored_instead] == ["2.weight"]
    assert {check.status for check in lottapack.verify(tmp_path / "a").checks} == {"ok"}
    with lottapack.open_pack(tmp_path / "a") as pack:
        assert [*pack.descriptor.scaffolds["task-b"].fingerprints] == ["0.weight"]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("name", ["mlp", "llama", "text"])
def test_a_checkpoint_leaves_a_model_on_its_scaffold(persistent, name):
    saved = train(scaffolded(name, persistent=persistent))
    lottapack.switch(saved, "task-b")
    model = scaffolded(name, persistent=persistent)
    lottapack.switch(model, "c.3")
    model.load_state_dict(saved.state_dict())
    assert lottapack.nn.active_scaffold(model) == "c.3"
    assert backbone(model) == alone(2**64 - 1, name)
    lottapack.switch(saved, "c.3")
    assert all_bits(model) == all_bits(saved)


def test_a_checkpoint_of_other_scaffolds_is_refused():
    state = scaffolded(scaffolds={"task-b": 9}).state_dict()
    with pytest.raises(CheckpointError, match=r"scaffolds \{'default': 7, 'task-b': 9\}, this model \{'default': 7"):
        scaffolded().load_state_dict(state)


@pytest.mark.parametrize(
    ("scaffolds", "said"),
    [
        ({"b": 7}, "'b' and 'default' have the same seed"),
        ({"b": 8, "c": 8}, "'c' and 'b' have the same seed"),
        ({"default": 8}, "is the scaffold of the main seed"),
        ({"Task": 8}, "lower-case"),
        ({"": 8}, "lower-case"),
        ({"b": -1}, "seed=-1"),
        ({"b": 2**64}, "must be an integer from 0"),
        ({"b": "8"}, "must be an integer from 0"),
        ({f"n{number}": number + 100 for number in range(65)}, "65 scaffolds; a pack has at most 64"),
    ],
)
def test_scaffolds_that_cannot_be_are_refused(scaffolds, said):
    model = mlp()
    before = all_bits(model)
    with pytest.raises(ScaffoldError, match=said):
        lottapack.scaffold(model, seed=7, rank=2, scaffolds=scaffolds)
    assert all_bits(model) == before


def test_the_most_scaffolds(tmp_path):
    model = scaffolded(scaffolds={f"n{number}": number + 100 for number in range(64)})
    lottapack.pack(model, tmp_path / "a")
    assert len(lottapack.inspect(tmp_path / "a").scaffolds) == 64


def test_a_scaffold_that_is_not_there_is_refused_and_the_others_are_listed(tmp_path):
    model = train(scaffolded())
    lottapack.pack(model, tmp_path / "a")
    before = all_bits(model)
    attempts = (
        lambda: lottapack.switch(model, "task-d"),
        lambda: lottapack.load(tmp_path / "a", scaffold="task-d"),
        lambda: lottapack.load(tmp_path / "a", scaffold="task-d", merge=True),
        lambda: lottapack.export(tmp_path / "a", tmp_path / "out", scaffold="task-d"),
        lambda: lottapack.open_pack(tmp_path / "a", "task-d"),
    )
    for attempt in attempts:
        with pytest.raises(ScaffoldError, match=r"unknown scaffold 'task-d'\nChoose one of default, c\.3, task-b\."):
            attempt()
    assert all_bits(model) == before
    assert not (tmp_path / "out").exists()
    with pytest.raises(ScaffoldError, match=r"unknown scaffold 'task-b'\nChoose one of default\."):
        lottapack.switch(lottapack.scaffold(mlp(), seed=1, rank=2), "task-b")
    with pytest.raises(CheckpointError, match="does not contain a lottapack recipe"):
        lottapack.switch(mlp(), "default")


def test_a_model_with_one_scaffold_packs_as_before(tmp_path):
    """The field is left out, so packs of models without scaffolds keep their bytes."""
    lottapack.pack(lottapack.scaffold(mlp(), seed=7, rank=2), tmp_path / "a")
    lottapack.pack(lottapack.scaffold(mlp(), seed=7, rank=2, scaffolds={}), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with lottapack.open_pack(tmp_path / "a") as pack:
        assert b"scaffolds" not in pack.descriptor.to_bytes()


def test_the_command_line_lists_and_exports_them(tmp_path, capsys):
    pack, out = tmp_path / "a.lotta.safetensors", tmp_path / "b.safetensors"
    lottapack.pack(train(scaffolded()), pack)
    assert main(["inspect", str(pack)]) == 0
    assert "task-b: seed 8 (0x0000000000000008)" in " ".join(capsys.readouterr().out.split())
    assert main(["inspect", str(pack), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scaffolds"] == {"task-b": f"{8:016x}", "c.3": "f" * 16}
    assert main(["export", str(pack), "-o", str(out), "--scaffold", "task-b", "--quiet"]) == 0
    merged = lottapack.load(pack, merge=True, scaffold="task-b").state_dict()
    from safetensors.torch import load_file

    assert {name: bits(tensor) for name, tensor in load_file(out).items()} == {n: bits(t) for n, t in merged.items()}
    assert main(["verify", str(pack), "--json"]) == 0
    where = {check["where"] for check in json.loads(capsys.readouterr().out)["checks"]}
    assert 'rng.scaffolds["task-b"].fingerprints["0.weight"]' in where
    assert main(["export", str(pack), "-o", str(out), "--scaffold", "task-d"]) == 2
    assert "unknown scaffold 'task-d' Choose one of default, c.3, task-b." in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("targets", [["q_proj"], ["embed_tokens", "q_proj"]], ids=["frozen", "adapted"])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_tied_head_follows_after_a_cast(targets, persistent, tmp_path):
    """A cast makes two buffers of a tied one: torch casts buffers one by one."""
    options = {"targets": targets, "train": ["norms"], "persistent": persistent}
    model = train(scaffolded("llama", **options)).to(torch.bfloat16)
    lottapack.pack(model, tmp_path / "a")
    given = input_for("llama")
    for scaffold in SEEDS:
        lottapack.switch(model, scaffold)
        loaded = lottapack.load(tmp_path / "a", scaffold=scaffold)
        assert bits(output(model, given)) == bits(output(loaded, given))
    lottapack.pack(model, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_damaged_scaffold_is_found_by_verify_and_by_a_load_that_checks(tmp_path):
    path = tmp_path / "a"
    lottapack.pack(train(scaffolded()), path)
    with lottapack.open_pack(path) as pack:
        right = pack.descriptor.scaffolds["task-b"].fingerprints["0.weight"]
    from lottapack.format import container

    with lottapack.open_pack(path) as pack:
        changed = pack.descriptor.to_bytes().replace(right.encode(), b"0" * 16)
        placed = container.layout((info.name, info.dtype, info.shape) for info in pack.tensors.values())
        data = b"".join(bytes(pack.read_bytes(info)) for info in placed)
    path.write_bytes(container.header_bytes(placed, container.pack_metadata(changed)) + data)
    failed = [check.where for check in lottapack.verify(path).checks if check.status == "failed"]
    assert failed == ['rng.scaffolds["task-b"].fingerprints["0.weight"]']
    lottapack.load(path, check_fingerprints=True)
    with pytest.raises(lottapack.errors.IntegrityError, match=r'rng\.scaffolds\["task-b"\]'):
        lottapack.load(path, check_fingerprints=True, scaffold="task-b")
