"""Embeddings with an adapter, also with a tied head."""

import copy

import models
import pytest
import torch
from torch import nn

import lottapack
from lottapack.errors import ScaffoldError


def llama():
    pytest.importorskip("transformers")
    targets = ["embed_tokens", "q_proj", "v_proj"]
    return models.train(lottapack.scaffold(models.tied_llama(), seed=9, rank=4, targets=targets))


def tied_sequential(bias=True):
    """A head tied to the embedding."""
    model = nn.Sequential(nn.Embedding(30, 12), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 30, bias=bias))
    model[3].weight = model[0].weight
    return model


class Bounded(nn.Module):
    """Embeddings that shrink rows in place, and a convolution that does, as models of signals have it."""

    class Conv(nn.Conv1d):
        max_norm = 0.5

        def forward(self, input):  # noqa: A002
            self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=self.max_norm)
            return super().forward(input)

    def __init__(self):
        super().__init__()
        self.embed, self.bags = nn.Embedding(9, 8, max_norm=1.0), nn.EmbeddingBag(9, 8, max_norm=1.0)
        self.conv, self.last = self.Conv(5, 5, 3, padding=1), nn.Linear(8, 8)

    def forward(self, x):
        return self.last(self.conv(self.embed(x)) + self.bags(x)[:, None])


def bounded():
    return lottapack.build("python", f"{__name__}:Bounded")


@pytest.mark.parametrize("target", ["embed", "bags", "bags.weight"])
def test_a_weight_that_its_layer_changes_has_no_adapter(target):
    with pytest.raises(ScaffoldError, match=r"weight cannot have an adapter: its Embedding(Bag)? has max_norm"):
        lottapack.scaffold(bounded(), seed=1, rank=2, targets=[target, "last"])


def test_what_changes_its_weight_is_trained_in_full(tmp_path):
    model = models.train(lottapack.scaffold(bounded(), seed=1, rank=2, train=["biases", "embeddings", "rest"]))
    assert isinstance(model.conv.weight, nn.Parameter)
    tokens = torch.arange(10).view(2, 5) % 9
    due = model(tokens)
    lottapack.pack(model, tmp_path / "p")
    for merge in (False, True):
        loaded = lottapack.load(tmp_path / "p", merge=merge, allow=[__name__])
        torch.testing.assert_close(loaded(tokens), due, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", ["learned", 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_the_head_sees_the_adapter(beta, bias):
    model = lottapack.scaffold(tied_sequential(bias), seed=1, rank=3, targets=["0", "1"], alpha=6, beta=beta)
    model = models.train(model)
    tokens = torch.arange(30).view(5, 6)
    hidden = model[2](model[1](nn.functional.embedding(tokens, model[0].merged_weight())))
    due = nn.functional.linear(hidden, model[0].merged_weight(), model[3].bias)
    torch.testing.assert_close(model(tokens), due, rtol=1e-4, atol=1e-5)


def test_both_uses_give_gradients():
    model = lottapack.scaffold(tied_sequential(), seed=1, rank=3, targets=["0", "1"])
    models.train(model)
    hidden = torch.randn(4, 12)
    model[3](hidden).square().sum().backward()
    assert all(part.grad.abs().sum() > 0 for part in (model[0].lora_A, model[0].lora_B, model[0].beta))
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names)) == 3 + 4 + 1  # two adapters, and the biases of layer and head


def test_a_copy_has_an_adapter_of_its_own():
    model = models.train(lottapack.scaffold(tied_sequential(), seed=1, rank=3, targets=["0", "1"]))
    other = copy.deepcopy(model)
    tokens = torch.arange(4)
    before = model(tokens)
    with torch.no_grad():
        other[0].lora_B.zero_()
    assert torch.equal(model(tokens), before)
    assert not torch.equal(other(tokens), before)


def test_a_tied_llama_goes_all_the_way(tmp_path):
    model = llama()
    packed = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    with lottapack.open_pack(packed) as pack:
        entries = pack.descriptor.parameters
        assert entries["model.embed_tokens.weight"].rank == 4
        assert entries["lm_head.weight"].to == "model.embed_tokens.weight"
    tokens = torch.tensor([[1, 5, 31]])
    loaded = lottapack.load(packed)
    with torch.no_grad():
        logits = model(tokens).logits
        assert torch.equal(loaded(tokens).logits, logits)
        merged = lottapack.load(packed, merge=True)
        torch.testing.assert_close(merged(tokens).logits, logits, rtol=1e-4, atol=1e-4)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    again = lottapack.pack(loaded, tmp_path / "b.lotta.safetensors").path
    assert again.read_bytes() == packed.read_bytes()
    assert lottapack.verify(packed).ok
    folder = lottapack.export(packed, tmp_path / "full", format="transformers").parent
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(plain(tokens).logits, merged(tokens).logits)
    pack_folder = lottapack.export(packed, tmp_path / "small", format="transformers-pack").parent
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(pack_folder)(tokens).logits, merged(tokens).logits)


def test_a_checkpoint_without_the_backbone_is_enough(tmp_path):
    model = llama()
    assert not any("embed_tokens.weight" in name or "lm_head" in name for name in model.state_dict())
    direct = lottapack.pack(model, tmp_path / "a.lotta.safetensors").path
    from_state = lottapack.pack(model.state_dict(), tmp_path / "b.lotta.safetensors").path
    assert from_state.read_bytes() == direct.read_bytes()
    fresh = lottapack.scaffold(models.tied_llama(), seed=9, rank=4, targets=["embed_tokens", "q_proj", "v_proj"])
    fresh.load_state_dict(model.state_dict())
    tokens = torch.tensor([[2, 3]])
    with torch.no_grad():
        assert torch.equal(fresh.eval()(tokens).logits, model(tokens).logits)


def test_other_layers_with_one_weight_are_still_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    with pytest.raises(lottapack.errors.ScaffoldError, match="another layer shares its weight"):
        lottapack.scaffold(model, seed=1, rank=2, targets=["0"])


def test_embeddings_that_compute_otherwise_are_refused():
    class Scaled(nn.Linear):
        pass

    model = tied_sequential()
    model[3].__class__ = Scaled
    with pytest.raises(lottapack.LottapackError):
        lottapack.scaffold(model, seed=1, rank=2, targets=["0", "1"])


def test_a_head_whose_bias_is_tied_elsewhere_goes_all_the_way(tmp_path):
    """As in BERT and the models after it, whose masked language models keep the bias under two names."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    model = lottapack.scaffold(
        transformers.BertForMaskedLM(config), seed=1, rank=2, targets=["word_embeddings", "query"]
    )
    model = models.train(model).eval()
    lottapack.pack(model, tmp_path / "a")
    rebuilt = lottapack.load(tmp_path / "a")
    assert models.all_bits(rebuilt) == models.all_bits(model)
    tokens = torch.arange(8)[None]
    assert torch.equal(rebuilt(tokens).logits, model(tokens).logits)
    lottapack.pack(rebuilt, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
