"""Lightning's callback, with the real library."""

import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import BackboneChangedWarning, ScaffoldError

pl = pytest.importorskip("pytorch_lightning")
from lottapack.lightning import PackCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


class Task(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        lottapack.scaffold(self.net, seed=7, rank=2)

    def training_step(self, batch, _):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), lr=0.1)


def trainer(folder, callback):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, default_root_dir=folder, callbacks=[callback], **quiet
    )


def data():
    torch.manual_seed(1)
    x = torch.randn(32, 8)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long()), batch_size=8)


def test_training_ends_with_a_pack(tmp_path):
    task = Task()
    before = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
    callback = PackCallback(tmp_path / "m.lotta.safetensors", attribute="net")
    trainer(tmp_path, callback).fit(task, data())
    assert callback.packed == tmp_path / "m.lotta.safetensors"
    assert lottapack.verify(callback.packed).ok
    x = torch.randn(4, 8)
    with torch.no_grad():
        assert torch.equal(lottapack.load(callback.packed)(x), task.net(x))
    assert any(not torch.equal(before[name], tensor) for name, tensor in task.net.state_dict().items())


@pytest.mark.parametrize("buffers", [True, False])
def test_averages_over_buffers_are_told(buffers, tmp_path, recwarn):
    averaging = pl.callbacks.WeightAveraging(use_buffers=buffers, avg_fn=lambda mean, now, _: 0.9 * mean + 0.1 * now)
    task, callback = Task(), PackCallback(tmp_path / "m.lotta.safetensors", attribute="net")
    fitting = trainer(tmp_path, callback)
    fitting.callbacks.insert(0, averaging)
    fitting.fit(task, data())
    told = [str(one.message) for one in recwarn if one.category is BackboneChangedWarning]
    assert len(told) == buffers
    if buffers:
        assert "1 of them only differ by rounding" in told[0] and "use_buffers=False" in told[0]
        lottapack.pack(lottapack.nn.regenerate_(task.net), callback.packed)
    roles = {entry.name: entry.role for entry in lottapack.inspect(callback.packed).parameters}
    assert roles["0.weight"] == "adapted"


def test_a_wrong_attribute_is_told_before_training(tmp_path):
    callback = PackCallback(tmp_path / "m.lotta.safetensors")
    with pytest.raises(ScaffoldError, match="does not have the attribute 'model'"):
        trainer(tmp_path, callback).fit(Task(), data())
    assert not (tmp_path / "m.lotta.safetensors").exists()
