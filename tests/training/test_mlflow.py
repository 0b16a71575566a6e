"""The flavour of MLflow, with the real library and its store in a folder."""

import numpy as np
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, IntegrityError, NotFoundError, OutputError, UnsupportedError

mlflow = pytest.importorskip("mlflow")
pandas = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def pack(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    lottapack.scaffold(model, seed=7, rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return lottapack.pack(model, tmp_path / "m.lotta.safetensors").path


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A tracking store in a new folder, in which runs and registered models lie."""
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri(None)


def bits(model):
    return {name: tensor.view(torch.uint8) for name, tensor in model.state_dict().items()}


def test_a_saved_model_is_the_pack(pack, tmp_path):
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    assert (tmp_path / "saved" / "data" / pack.name).read_bytes() == pack.read_bytes()
    expected, found = bits(lottapack.load(pack)), bits(lottapack.mlflow.load_model(tmp_path / "saved"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    requirements = (tmp_path / "saved" / "requirements.txt").read_text()
    assert f"lottapack[torch]=={lottapack.__version__}" in requirements.split()


def test_mlflow_runs_it(pack, tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 8))
    with torch.no_grad():
        expected = lottapack.load(pack)(torch.from_numpy(x).float()).numpy()
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    for given in (x, x.astype(np.float32), pandas.DataFrame(x), {"input": x}):
        assert np.array_equal(model.predict(given), expected)


def test_a_run_logs_it_and_a_registered_version_is_loaded(pack, store):
    with mlflow.start_run():
        info = lottapack.mlflow.log_model(pack, "digits", registered_model_name="digits")
    assert {"lottapack", "python_function"} <= info.flavors.keys()
    for address in (info.model_uri, "models:/digits/1"):
        found = bits(lottapack.mlflow.load_model(address))
        assert all(torch.equal(tensor, found[name]) for name, tensor in bits(lottapack.load(pack)).items())


def test_options_of_load_are_taken(pack, tmp_path):
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    plain = lottapack.mlflow.load_model(tmp_path / "saved", merge=True, dtype="bfloat16")
    assert {tensor.dtype for tensor in plain.state_dict().values()} == {torch.bfloat16}
    assert plain.state_dict().keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_a_damaged_pack_or_another_model_is_refused(pack, tmp_path):
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    inner = tmp_path / "saved" / "data" / pack.name
    data = bytearray(inner.read_bytes())
    data[-1] ^= 1
    inner.write_bytes(data)
    with pytest.raises(IntegrityError):
        lottapack.mlflow.load_model(tmp_path / "saved")
    mlflow.pyfunc.save_model(tmp_path / "other", loader_module="json", data_path=str(pack))
    with pytest.raises(NotFoundError, match="does not have the flavour lottapack"):
        lottapack.mlflow.load_model(tmp_path / "other")


def test_parameters_of_a_call_are_refused(pack):
    predictor = lottapack.mlflow._load_pyfunc(str(pack))
    with pytest.raises(UnsupportedError, match="does not take the parameters temperature"):
        predictor.predict(np.zeros((1, 8)), {"temperature": 1.0})


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x):
        return self.layer(x), x


def test_outputs_that_are_no_arrays_are_refused(tmp_path):
    predictor = lottapack.mlflow._Predictor(Two())
    with pytest.raises(UnsupportedError, match="output of a Two is a tuple"):
        predictor.predict(np.zeros((1, 8)))


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((2, 9)), np.zeros((2, 8), np.int64), np.zeros((2, 8), bool), np.zeros((2, 8), complex),
        np.zeros((2, 8), np.longdouble), np.array([["a"] * 8]), np.array([[None] * 8], object), [[1.0], [1.0, 2.0]],
        pandas.DataFrame({"a": [1.0], "b": ["x"]}), "text", None, 5.0, {"other": np.zeros((2, 8))}, {5: 1.0},
    ],
)  # fmt: skip
def test_inputs_that_the_model_cannot_take_are_one_error(pack, given):
    with pytest.raises(CheckpointError, match="cannot take this input"):
        lottapack.mlflow._load_pyfunc(str(pack)).predict(given)


def test_arrays_in_any_order_are_taken(pack):
    predictor = lottapack.mlflow._load_pyfunc(str(pack))
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    for given in (x.astype(">f4"), np.asfortranarray(x), x[:, ::-1][:, ::-1], x.tolist()):
        assert np.array_equal(predictor.predict(given), predictor.predict(x))


@pytest.mark.parametrize(
    "text", [None, "text", "[" * 100_000, "evil: !!python/object/apply:os.system ['touch ran']\n", "\x00"]
)
def test_a_hostile_description_is_one_error(text, pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    (tmp_path / "saved" / "MLmodel").unlink()
    if text is not None:
        (tmp_path / "saved" / "MLmodel").write_text(text)
    with pytest.raises(NotFoundError) as caught:
        lottapack.mlflow.load_model(tmp_path / "saved")
    assert caught.value.hint and len(str(caught.value)) < 1000
    assert not (tmp_path / "ran").exists()


def test_nothing_is_saved_over_something(pack, tmp_path):
    (tmp_path / "saved").mkdir()
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    for there in (tmp_path / "saved", pack):
        with pytest.raises(OutputError, match="exists already"):
            lottapack.mlflow.save_model(pack, there)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_save_that_does_not_end_leaves_nothing(fault, there, pack, tmp_path, monkeypatch):
    """A folder with half a model would be refused by the next save, and read by MLflow."""
    if there:
        (tmp_path / "saved").mkdir()
    pack.with_name(f"{pack.name}.sig").write_text("{}")

    def stopped(*_, **__):
        raise fault

    before = {path.name for path in tmp_path.rglob("*")}
    monkeypatch.setattr("shutil.copyfile", stopped)
    with pytest.raises(OutputError if isinstance(fault, OSError) else fault) as caught:
        lottapack.mlflow.save_model(pack, tmp_path / "saved")
    monkeypatch.undo()
    assert {path.name for path in tmp_path.rglob("*")} == before
    if isinstance(fault, OSError):
        assert "No space left on device" in str(caught.value)
    lottapack.mlflow.save_model(pack, tmp_path / "saved")
    assert lottapack.mlflow.load_model(tmp_path / "saved")


def test_a_place_that_cannot_be_written_is_one_error(pack):
    with pytest.raises(OutputError, match="cannot write"):
        lottapack.mlflow.save_model(pack, pack / "saved")
