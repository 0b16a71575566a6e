"""Controls: another backbone during training, none, or a trained one."""

import copy
import sys

import pytest
import torch
from models import tied_llama
from torch import nn

import lottapack
from lottapack.errors import BackboneChangedWarning, CheckpointError, ScaffoldError, UnsupportedError


def build(**options):
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    return lottapack.scaffold(net, seed=7, rank=4, targets="*", **options)


def backbones(model):
    return [module.backbone.clone() for module in model if hasattr(module, "backbone")]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_each_step_draws_the_backbone_of_the_next_seed():
    model, control = build(), None
    control = lottapack.nn.RedrawBackbone(model)
    begun = backbones(model)
    control.epoch()
    assert same(backbones(model), begun)
    control.step()
    control.step()
    other = lottapack.scaffold(copy.deepcopy(nn.Sequential(*[nn.Linear(32, 64)])), seed=9, rank=4, targets="*")
    assert torch.equal(model[0].backbone, other[0].backbone)
    control.restore()
    assert same(backbones(model), begun)


def test_each_epoch():
    model = build()
    begun, control = backbones(model), lottapack.nn.RedrawBackbone(model, every="epoch")
    control.step()
    assert same(backbones(model), begun)
    control.epoch()
    assert not same(backbones(model), begun)


def test_the_largest_seed_wraps():
    net = lottapack.scaffold(nn.Sequential(nn.Linear(32, 64)), seed=2**64 - 1, rank=4, targets="*")
    first = lottapack.scaffold(nn.Sequential(nn.Linear(32, 64)), seed=0, rank=4, targets="*")
    lottapack.nn.RedrawBackbone(net).step()
    assert torch.equal(net[0].backbone, first[0].backbone)


def test_a_redrawn_backbone_is_never_packed_as_that_of_the_seed(tmp_path):
    model = build()
    control = lottapack.nn.RedrawBackbone(model)
    control.step()
    path = tmp_path / "m.lotta.safetensors"
    with pytest.warns(BackboneChangedWarning):
        lottapack.pack(model, path)
    x = torch.randn(8, 32)
    assert torch.allclose(lottapack.load(path)(x), model(x), atol=1e-5)
    control.restore()
    lottapack.pack(model, path)
    assert torch.equal(lottapack.load(path)[0].backbone, model[0].backbone)


def test_drawing_between_forward_and_backward_is_an_error():
    model = build()
    control = lottapack.nn.RedrawBackbone(model)
    loss = model(torch.randn(8, 32)).sum()
    control.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_transformers_trainer_draws(tmp_path):
    transformers = pytest.importorskip("transformers")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = build()

        def forward(self, x, labels):
            return {"loss": nn.functional.cross_entropy(self.body(x), labels)}

    net = Net()
    data = [{"x": torch.randn(32), "labels": torch.tensor(1)} for _ in range(8)]
    for every, expected in (("step", 4), ("epoch", 2)):
        control = lottapack.nn.RedrawBackbone(net.body, every=every)
        options = transformers.TrainingArguments(
            tmp_path, num_train_epochs=2, per_device_train_batch_size=4, use_cpu=True, report_to=[], save_strategy="no",
            disable_tqdm=True,
        )  # fmt: skip
        transformers.Trainer(net, options, train_dataset=data, callbacks=[control.for_trainer()]).train()
        assert control.drawn == expected


def test_lightning_hooks_draw(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    model = build()
    step, epoch = (lottapack.nn.RedrawBackbone(model, every=every) for every in ("step", "epoch"))
    for callback in (step.for_lightning(), epoch.for_lightning()):
        callback.on_train_epoch_start("trainer", "module")
        callback.on_train_batch_start("trainer", "module", "batch", 0)
        callback.on_train_batch_start("trainer", "module", "batch", 1)
    assert (step.drawn, epoch.drawn) == (2, 1)


@pytest.mark.parametrize("options", [{}, {"frozen_factor": "lora_A"}, {"scaling": "rslora", "alpha": 16.0}])
def test_without_a_backbone_the_adapter_has_its_variance_and_trains(options):
    model, x = build(**options), torch.randn(4096, 32)
    before = model[0](x).std()
    assert lottapack.nn.zero_backbone_(model) is model
    assert not any(backbone.any() for backbone in backbones(model))
    assert 0.6 < model[0](x).std() / before < 1.6
    model(x).square().sum().backward()
    trained = [p for name, p in model.named_parameters() if "lora" in name and p.requires_grad]
    assert trained
    assert all(p.grad.any() for p in trained)


def test_without_b_no_gradient_passes():
    model = build()
    lottapack.nn.zero_backbone_(model)
    for layer in (model[0], model[2], model[4]):
        nn.init.zeros_(layer.lora_B)
    model(torch.randn(64, 32)).square().sum().backward()
    assert not model[0].lora_B.grad.any()


def test_zero_reaches_weights_in_modules_of_any_class():
    model = lottapack.scaffold(nn.Sequential(nn.Bilinear(16, 16, 32)), seed=1, rank=2, targets="*")
    lottapack.nn.zero_backbone_(model)
    x = torch.randn(256, 16)
    assert not model[0].backbone.any()
    assert model[0](x, x).abs().mean() > 0.01


@pytest.mark.parametrize("options", [{"rank": 0, "beta": "output"}, {"rank": 4, "vera": True}])
def test_adapters_without_a_product_are_refused_before_anything_changes(options):
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))
    model = lottapack.scaffold(net, seed=7, targets="*", **options)
    before = backbones(model)
    with pytest.raises(UnsupportedError, match=r"the adapter of 0\.weight is not a product"):
        lottapack.nn.zero_backbone_(model)
    assert same(backbones(model), before)


def test_trained_weights_take_the_place_of_the_backbone():
    trained = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))
    model = lottapack.scaffold(copy.deepcopy(trained), seed=1, rank=2, beta=1.0)
    lottapack.nn.put_backbone_(model, trained)
    x = torch.randn(8, 32)
    assert torch.allclose(model(x), trained(x), atol=1e-6)
    lottapack.nn.put_backbone_(model, trained.state_dict())
    assert torch.equal(model[0].backbone, trained[0].weight)
    with pytest.raises(ScaffoldError, match=r"2\.weight: shape"):
        lottapack.nn.put_backbone_(model, nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 5)))
    with pytest.raises(ScaffoldError, match="missing"):
        lottapack.nn.put_backbone_(model, nn.Sequential(nn.Linear(32, 64)))


def test_running_statistics_come_with_trained_weights():
    trained = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.Linear(64, 4))
    trained(torch.randn(64, 32) * 3 + 1)
    trained.eval()
    model = lottapack.scaffold(copy.deepcopy(trained), seed=1, rank=2, beta=1.0)
    model[1].reset_running_stats()
    lottapack.nn.put_backbone_(model, trained)
    x = torch.randn(8, 32)
    assert torch.allclose(model(x), trained(x), atol=1e-6)
    assert torch.equal(model[1].running_mean, trained[1].running_mean)
    with pytest.raises(CheckpointError, match="recipe"):
        lottapack.nn.put_backbone_(nn.Sequential(nn.Linear(32, 64)), trained)


@pytest.mark.parametrize("control", ["zero", "redrawn"])
def test_a_checkpoint_on_another_backbone_is_not_loaded_in_silence(control, tmp_path):
    model, other = build(), build()
    if control == "zero":
        lottapack.nn.zero_backbone_(model)
    else:
        lottapack.nn.RedrawBackbone(model).step()
    state = model.state_dict()
    with pytest.raises(CheckpointError, match="is not what its seed gives"):
        lottapack.pack(state, tmp_path / "m.lotta.safetensors")
    with pytest.warns(BackboneChangedWarning, match=r"0\.weight, 2\.weight, 4\.weight\. The model keeps"):
        other.load_state_dict(state)
    model.load_state_dict(state)  # which has that backbone
    build().load_state_dict(other.state_dict())


@pytest.mark.parametrize("targets", [["q_proj"], ["embed_tokens", "q_proj"]], ids=["frozen", "adapted"])
def test_a_tied_head_gets_the_same_weights_after_a_cast(targets):
    model = lottapack.scaffold(tied_llama(), seed=1, rank=2, targets=targets, train=["norms"]).bfloat16()
    head, embedding = (next(iter(one.buffers())) for one in (model.lm_head, model.model.embed_tokens))
    assert head is not embedding
    before = embedding.clone()
    lottapack.nn.RedrawBackbone(model).step()
    assert torch.equal(head, embedding)
    assert not torch.equal(embedding, before)
    lottapack.nn.put_backbone_(model, tied_llama())
    assert torch.equal(head, embedding)
    if len(targets) == 2:
        lottapack.nn.zero_backbone_(model)
        assert not head.any()
        assert not embedding.any()


def test_a_backbone_that_torch_drew_is_refused(tmp_path):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 4))
    lottapack.pack(lottapack.recover.torch_cpu(net, seed=3, architecture=net), tmp_path / "a")
    model = lottapack.load(tmp_path / "a")
    calls = lottapack.nn.RedrawBackbone, lottapack.nn.zero_backbone_, lambda one: lottapack.nn.put_backbone_(one, net)
    for call in calls:
        with pytest.raises(UnsupportedError, match="torch drew the backbone"):
            call(model)


def test_trained_adapters_are_not_overwritten():
    model = lottapack.nn.zero_backbone_(build())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ScaffoldError, match=r"the adapter of 0\.weight is trained"):
        lottapack.nn.zero_backbone_(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_is_refused_by_name():
    plain = nn.Sequential(nn.Linear(4, 4))
    for call in (lottapack.nn.zero_backbone_, lottapack.nn.RedrawBackbone):
        with pytest.raises(CheckpointError):
            call(plain)
    with pytest.raises(ScaffoldError, match="every"):
        lottapack.nn.RedrawBackbone(build(), every="hour")
    virtual = build(distribution="sign1", backbone="virtual")
    for call in (lottapack.nn.zero_backbone_, lottapack.nn.RedrawBackbone):
        with pytest.raises(UnsupportedError, match="the backbone of 0 is virtual"):
            call(virtual)
    with pytest.raises(UnsupportedError, match="the backbone of 0 is virtual"):
        lottapack.nn.put_backbone_(virtual, nn.Sequential(nn.Linear(32, 64)))
