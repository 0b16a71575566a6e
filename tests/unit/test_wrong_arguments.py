"""Arguments of the wrong type: a LottapackError names the argument."""

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import LimitError, ScaffoldError, UnsupportedError
from lottapack.onnx.tracing import example


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


@pytest.mark.parametrize("model", [None, "model.pt", nn.Linear, [nn.Linear(2, 2)], {"weight": torch.zeros(2)}])
def test_what_is_no_module(model):
    for call in (lottapack.scaffold, lottapack.init_backbone_):
        with pytest.raises(ScaffoldError, match=r"a model is needed, a torch\.nn\.Module") as raised:
            call(model, seed=1)
        assert raised.value.hint
    of_nn = (getattr(lottapack.nn, name) for name in ("is_scaffolded", "recipe_of", "scaffolds_of", "active_scaffold"))
    for call in (*of_nn, lottapack.nn.regenerate_, lottapack.distributed.exclude_from_ddp):
        with pytest.raises(ScaffoldError, match="a model is needed"):
            call(model)
    with pytest.raises(ScaffoldError, match="a model is needed"):
        lottapack.switch(model, "default")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("distribution", None),
        ("distribution", 5),
        ("scaffolds", ["a"]),
        ("scaffolds", {1: 2}),
        ("targets", 5),
        ("targets", ["0", 5]),
        ("train", 5),
        ("train", True),
        ("backbone", {1: "blocks"}),
        ("beta", torch.tensor([1.0, 2.0])),
        ("rank", {0: 2}),
        ("rank", True),
        ("alpha", "x"),
        ("dropout", None),
        ("backbone", None),
        ("backbone", 5),
        ("seed", "42"),
    ],
)
def test_arguments_of_scaffold(argument, value):
    with pytest.raises(ScaffoldError, match="|".join((argument, "scaffold '?1"))):
        lottapack.scaffold(mlp(), **{"seed": 1, "rank": 2, argument: value})


@pytest.mark.parametrize("value", ["8GB", float("nan"), [], 1j])
def test_bytes_that_are_no_number(value, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    for call in (
        lambda: lottapack.scaffold(mlp(), seed=1, rank=2, max_bytes=value),
        lambda: lottapack.load(path, max_bytes=value),
        lambda: lottapack.verify(path, max_bytes=value),
        lambda: lottapack.numpy.load(path, max_bytes=value),
        lambda: lottapack.export(path, tmp_path / "b", max_bytes=value),
    ):
        with pytest.raises(LimitError, match=r"max_bytes=.* is not a number of bytes"):
            call()


@pytest.mark.parametrize(
    "value", [None, 5, "a" * 5000, "a\0b", "\ud800", b"bytes"], ids=["none", "number", "long", "nul", "text", "bytes"]
)
def test_what_is_no_path(value, tmp_path):
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(model, path)
    calls = [
        lambda: lottapack.pack(model, value),
        lambda: lottapack.export(path, value),
        lambda: lottapack.open_pack(value),
        lambda: lottapack.load(value),
        lambda: lottapack.verify(value),
        lambda: lottapack.inspect(value),
        lambda: lottapack.sign(value, tmp_path / "key"),
    ]
    if value is not None:  # which means none here
        calls += [lambda: lottapack.report(path, against=value), lambda: lottapack.verify(path, key=value)]
    for call in calls:
        with pytest.raises(lottapack.LottapackError) as raised:
            call()
        assert raised.value.hint
    if isinstance(value, str):
        with pytest.raises(lottapack.LottapackError):
            lottapack.pack(value, path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("ignore", 5, "ignore=5 must be names or patterns"),
        ("ignore", torch.tensor(5), r"ignore=tensor\(5\) must be names or patterns"),
        ("allow", None, "allow=None is not a list of names"),
        ("results", 5, "results=5 is not a list of results"),
        ("compression", None, "compression=None is not a Compression"),
        ("compression", {"coding": "trellis8"}, "is not a Compression"),
        ("check", 5, "check=5 cannot be called"),
        ("progress", 5, "progress=5 cannot be called"),
    ],
)
def test_arguments_of_pack(argument, value, said, tmp_path):
    with pytest.raises(lottapack.LottapackError, match=said) as raised:
        lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), tmp_path / "p", **{argument: value})
    assert raised.value.hint
    assert not list(tmp_path.iterdir())


def test_what_is_no_name_of_a_scaffold(tmp_path):
    model = lottapack.scaffold(mlp(), seed=1, rank=2, scaffolds={"b": 2})
    lottapack.pack(model, tmp_path / "p")
    for name in ([], {}, 5):
        for call in (
            lambda name=name: lottapack.load(tmp_path / "p", scaffold=name),
            lambda name=name: lottapack.switch(model, name),
        ):
            with pytest.raises(ScaffoldError, match="unknown scaffold"):
                call()


def test_a_number_of_numpy_is_a_beta():
    same = [lottapack.scaffold(mlp(), seed=1, rank=2, beta=one).state_dict() for one in (1.0, np.float32(1))]
    assert torch.equal(*(state["lottapack_recipe"] for state in same))


def test_integers_of_numpy_are_integers():
    model = lottapack.scaffold(mlp(), seed=np.int64(7), rank=np.int32(2))
    same = lottapack.scaffold(mlp(), seed=7, rank=2)
    assert torch.equal(model.state_dict()["lottapack_recipe"], same.state_dict()["lottapack_recipe"])
    assert torch.equal(lottapack.draw("w", 4, seed=np.uint64(7)), lottapack.draw("w", 4, seed=7))


def test_a_parameter_whose_elements_share_memory():
    model = mlp()
    model[0].weight = nn.Parameter(torch.zeros(1, 1).expand(16, 8))
    with pytest.raises(ScaffoldError, match=r"cannot write 0\.weight: its elements share memory"):
        lottapack.scaffold(model, seed=1, rank=2)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": 5},
        {"name": None},
        {"seed": "x"},
        {"seed": None},
        {"scale": "lecun"},
        {"distribution": None},
        {"start": 1.5},
        {"dtype": "float33"},
        {"dtype": None},
        {"device": "abacus"},
        {"shape": (2**40, 2**30)},
    ],
)
def test_arguments_of_draw(changed):
    arguments = {"name": "w", "shape": (2, 2), "seed": 1, **changed}
    with pytest.raises(UnsupportedError) as raised:
        lottapack.draw(arguments.pop("name"), arguments.pop("shape"), **arguments)
    assert raised.value.hint


def test_drawing_more_than_the_memory():
    with pytest.raises(LimitError, match="more than is free"):
        lottapack.draw("w", 2**50, seed=1)


@pytest.mark.parametrize("dtype", ["bfloat17", "x", 5, torch.int8, torch.complex64])
def test_dtypes_that_nothing_converts_to(dtype, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    for call in (lottapack.load, lambda pack, dtype: lottapack.export(pack, tmp_path / "b", dtype=dtype)):
        with pytest.raises(UnsupportedError, match=r"cannot convert") as raised:
            call(path, dtype=dtype)
        assert "torch.bfloat16" in raised.value.hint


@pytest.mark.parametrize(
    "changed",
    [{"coding": ["int8-block64"]}, {"coding": 5}, {"max_error": "x"}, {"max_size": "lots"}, {"max_size": 1.5}],
)
def test_arguments_of_a_compression(changed):
    with pytest.raises(lottapack.LottapackError, match=next(iter(changed))):
        lottapack.Compression(**changed)


@pytest.mark.parametrize("value", [5, 1.5, "x", [1], True])
def test_a_progress_that_cannot_be_called(value, tmp_path):
    """Before any work begins."""
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    for call in (
        lambda: lottapack.export(path, tmp_path / "b", progress=value),
        lambda: lottapack.verify(path, progress=value),
        lambda: lottapack.push(path, "a/b", progress=value),
        lambda: lottapack.pull("a/b", progress=value),
        lambda: lottapack.speed.bench(elements=1, rounds=1, progress=value),
        lambda: lottapack.study(mlp, mlp, progress=value),
        lambda: lottapack.recover.merged(path, seed=1, max_rank=1, progress=value),
    ):
        with pytest.raises(UnsupportedError, match=r"progress=.* cannot be called"):
            call()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("value", [None, 5, b"a/b", ["a/b"], {}, object()])
def test_what_is_no_reference(value):
    for call in (lottapack.pull, lottapack.history, lottapack.list_packs, lottapack.registry.parse_remote):
        with pytest.raises(lottapack.errors.InvalidReferenceError) as raised:
            call(value)
        assert raised.value.hint
    with pytest.raises(lottapack.errors.InvalidReferenceError):
        lottapack.push("a.lotta.safetensors", value)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("tag", 5, "tag=5 is not text"),
        ("branch", ["a"], "is not text"),
        ("message", b"a", "is not text"),
        ("license", {}, "is not text"),
        ("datasets", 5, "datasets=5 is not a list of names"),
        ("datasets", [5], "is not a list of names"),
        ("metrics", None, "is not a list of names"),
        ("results", [("accuracy", 1)], "is not a mapping"),
        ("path", 5, "path=5 is not a path"),
    ],
)
def test_arguments_of_push(argument, value, said, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    with pytest.raises(lottapack.LottapackError, match=said) as raised:
        lottapack.push(**{"path": path, "reference": "a/b", argument: value})
    assert raised.value.hint


@pytest.mark.parametrize("value", ["numpy", "Safetensors", "", None, 5, ["onnx"]])
def test_formats_that_no_export_writes(value, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    with pytest.raises(UnsupportedError, match="unknown format") as raised:
        lottapack.export(path, tmp_path / "b", format=value)
    assert "safetensors" in raised.value.hint
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_sizes_of_shards_beyond_any_number(tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    with pytest.raises(UnsupportedError, match="is not a size"):
        lottapack.export(path, tmp_path / "b", max_shard_size="9" * 400 + "GB")


def trains(model, seed, rank):
    return 1.0


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("train", None, "train=None cannot be called"),
        ("train", 5, "train=5 cannot be called"),
        ("build", None, "build=None cannot be called"),
        ("pretrained", "x", "pretrained='x' cannot be called"),
        ("ranks", 5.5, "ranks="),
        ("ranks", None, "ranks="),
        ("options", 5, "options=5 must be a mapping"),
        ("options", {1: 2}, "must be a mapping of names"),
        ("record", 5, "record=5 is not a path"),
    ],
)
def test_arguments_of_study(argument, value, said):
    with pytest.raises(lottapack.LottapackError, match=said) as raised:
        lottapack.study(**{"train": trains, "build": lambda seed: mlp(), "ranks": [1], "seeds": 1, argument: value})
    assert raised.value.hint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tokens": 5}, "tokens=5 is not a list of numbers"),
        ({"tokens": [1.5]}, "is not a list of numbers"),
        ({"prompt": 5}, "prompt=5 is not text"),
        ({"inputs": 5}, "inputs=5 is not the input of a model"),
        ({"inputs": "a\0.npy"}, "inputs=.* is not a path"),
        ({"inputs": np.array(["a"])}, "an input cannot be a tensor"),
        ({"inputs": "x.npy", "output": 5}, "output=5 is not a path"),
    ],
)
def test_arguments_of_run(arguments, said, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    with pytest.raises(lottapack.LottapackError, match=said) as raised:
        lottapack.run(path, **arguments)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("checkpoint", 5, "checkpoint=5 is not a path"),
        ("architecture", 5, "architecture=5 is not a path"),
        ("architecture", {}, "architecture={} is not a path"),
        ("distribution", None, "distribution=None must be the id of a table"),
        ("tolerance", "", "tolerance='': both must be above 0"),
        ("max_rank", 1.5, r"max_rank=1\.5, .* a whole number"),
        ("seed", "1", "seed"),
    ],
)
def test_arguments_of_recover(argument, value, said):
    arguments = {"checkpoint": mlp(), "seed": 1, "max_rank": 2, argument: value}
    with pytest.raises(lottapack.LottapackError, match=said) as raised:
        lottapack.recover.merged(**arguments)
    assert raised.value.hint


def test_arguments_of_other_functions(tmp_path):
    with pytest.raises(ScaffoldError, match="a model is needed"):
        lottapack.compare(None, "a.lotta.safetensors", torch.zeros(2))
    with pytest.raises(UnsupportedError, match="cannot be the id"):
        lottapack.table(lambda p: p - 0.5, 1, id=5)


@pytest.mark.parametrize(("size", "number"), [("2kB", 2000), ("2 KiB", 2048), (np.int64(2000), 2000), (2000, 2000)])
def test_a_largest_size_is_a_number_or_text(size, number, tmp_path):
    way = lottapack.Compression(max_size=size)
    with pytest.raises(lottapack.errors.CheckpointError, match=f"more than max_size={number}"):
        lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), tmp_path / "p", compression=way)


def test_an_error_may_be_a_number_of_numpy():
    assert lottapack.Compression(max_error=np.float32(0.5)).by_group == lottapack.Compression(max_error=0.5).by_group


def test_a_score_may_be_a_number_of_numpy_or_torch(tmp_path):
    kinds = {"task": "t", "dataset": "d", "metric": "m"}
    scores = [
        lottapack.Result(**kinds, score=np.float32(0.5), seeds=np.int64(3)),
        {**kinds, "score": torch.tensor(0.5), "seeds": 3},
    ]
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), tmp_path / "p", results=scores)
    first, second = lottapack.inspect(tmp_path / "p").results
    assert first == second == lottapack.Result(**kinds, score=0.5, seeds=3)


def test_the_text_of_numpy_is_text():
    same = [lottapack.scaffold(mlp(), seed=1, distribution=one) for one in ("sign1", np.str_("sign1"))]
    assert torch.equal(*(model.state_dict()["lottapack_recipe"] for model in same))


@pytest.mark.parametrize("value", ["no", "True", None, 1, 0.0])
def test_what_is_neither_true_nor_false(value, tmp_path):
    """The text "no" would count as True."""
    model, path = lottapack.scaffold(mlp(), seed=1, rank=2), tmp_path / "a.lotta.safetensors"
    lottapack.pack(model, path)
    calls = {
        "merge": lambda: lottapack.load(path, merge=value),
        "check_fingerprints": lambda: lottapack.load(path, check_fingerprints=value),
        "vera": lambda: lottapack.scaffold(mlp(), seed=1, vera=value),
        "persistent": lambda: lottapack.scaffold(mlp(), seed=1, persistent=value),
        "overwrite_pretrained": lambda: lottapack.scaffold(mlp(), seed=1, overwrite_pretrained=value),
        "allow_nonfinite": lambda: lottapack.pack(model, path, allow_nonfinite=value),
        "private": lambda: lottapack.push(path, "my-org/digits", private=value),
        "dry_run": lambda: lottapack.push(path, "my-org/digits", dry_run=value),
    }
    for name, call in calls.items():
        with pytest.raises(UnsupportedError, match=f"{name}=.* is neither True nor False"):
            call()
    assert lottapack.load(path, merge=np.True_) is not None
    with pytest.raises(ScaffoldError, match="seed=True"):
        lottapack.scaffold(mlp(), seed=True)


@pytest.mark.parametrize("name", ["tag", "branch"])
@pytest.mark.parametrize("value", ["a b", "", "-x", "a..b"])
def test_a_name_that_no_reference_holds_is_refused_before_anything_is_sent(name, value, tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    lottapack.pack(lottapack.scaffold(mlp(), seed=1, rank=2), path)
    with pytest.raises(lottapack.errors.InvalidReferenceError, match=f"{name}=.* cannot be the name of a {name}"):
        lottapack.push(path, "my-org/digits", **{name: value})


def test_all_forms_of_an_input_mean_the_same(tmp_path):
    path, values = tmp_path / "a.lotta.safetensors", np.ones((2, 8), np.float32)
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    lottapack.pack(model, path)
    np.save(tmp_path / "in.npy", values)
    np.savez(tmp_path / "in.npz", input=values)
    torch.save(torch.from_numpy(values), tmp_path / "in.pt")
    tensor = torch.from_numpy(values)
    forms = [values, tensor, [values], (tensor,), {"input": values}, tmp_path / "in.npy", str(tmp_path / "in.npz")]
    results = [lottapack.run(path, inputs=one).values for one in [*forms, tmp_path / "in.pt"]]
    assert all(one == results[0] for one in results)
    assert all(lottapack.compare(model, path, one).unmerged == 0 for one in forms)
    assert torch.equal(example(model, tensor)[0], tensor)  # not its rows


def test_what_is_no_input(tmp_path):
    path = tmp_path / "a.lotta.safetensors"
    model = lottapack.scaffold(mlp(), seed=1, rank=2)
    lottapack.pack(model, path)
    for call in (
        lambda: lottapack.compare(model, path, None),
        lambda: lottapack.compare(model, path, "none.npy"),
        lambda: lottapack.compare(model, path, "in.csv"),
        lambda: lottapack.run(path),
        lambda: lottapack.run(path, inputs=np.ones((1, 8))),
    ):
        with pytest.raises(lottapack.errors.CheckpointError) as raised:
            call()
        assert raised.value.hint
    with pytest.raises(ScaffoldError, match="a model is needed"):
        lottapack.compare(path, path, torch.ones(1, 8))


def test_tab_shows_public_names_only():
    assert [name for name in dir(lottapack) if not name.startswith("__")] == [
        name for name in lottapack.__all__ if not name.startswith("__")
    ]
