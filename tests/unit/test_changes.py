"""Changes outside tensors come back or are refused by name, from the live model and its state_dict."""

import copy
import functools

import pytest
import torch
from models import bits, cnn, mlp, tied_llama, train
from torch import nn

import lottapack
from lottapack.arch.as_built import as_built
from lottapack.errors import CheckpointError, LeftOutWarning, ScaffoldError
from lottapack.nn import changes

S = ".lotta.safetensors"
GIVEN = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
TOKENS = torch.tensor([[1, 5, 7, 3, 2, 9]])


def layers():
    return nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.LayerNorm(12), nn.Dropout(0.1), nn.Linear(12, 4))


def model(build=layers, **options):
    return train(lottapack.scaffold(build(), **{"seed": 1, "rank": 2, **options}))


def outputs(made, given=GIVEN):
    with torch.no_grad():
        found = made.eval()(given)
    return bits(found if isinstance(found, torch.Tensor) else found.logits)


def packed(made, how, tmp_path, **options):
    lottapack.pack(made if how == "model" else made.state_dict(), tmp_path / S, **options)
    return lottapack.load(tmp_path / S)


HOW = pytest.mark.parametrize("how", ["model", "state"])


class Doubled(nn.LayerNorm):
    """A user's norm."""

    def forward(self, x):
        return 2 * super().forward(x)


class Around(nn.Module):
    """A user's wrapper."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def double_input(_, args):
    return (2 * args[0],)


def double_output(_, __, output):
    return 2 * output


def hooked(made):
    made[0].register_forward_pre_hook(double_input)


def replaced_forward(made):
    before = made[2].forward
    made[2].forward = lambda x: 2 * before(x)


def wrapped(made, place):
    made[place] = Around(made[place])


def set_class(module, cls):
    module.__class__ = cls


# Changes that the current configuration holds come back


TOLD = {
    "an activation": lambda made: made.__setitem__(1, nn.GELU(approximate="tanh")),
    "the class of an activation": lambda made: set_class(made[1], nn.Tanh),
    "eps": lambda made: setattr(made[2], "eps", 0.5),
    "a probability": lambda made: setattr(made[3], "p", 0.7),
    "one more module": lambda made: made.append(nn.Tanh()),
    "another head": lambda made: made.__setitem__(4, nn.Linear(12, 7)),
}


@HOW
@pytest.mark.parametrize("change", TOLD)
def test_what_the_configuration_of_the_moment_tells_comes_back(change, how, tmp_path):
    made = model()
    before = outputs(made)
    TOLD[change](made)
    loaded = packed(made, how, tmp_path)
    assert outputs(loaded) == outputs(made)
    assert loaded[3].p == made[3].p
    assert (outputs(made) == before) == (change == "a probability")


@HOW
def test_a_convolution_is_what_it_was_set_to(how, tmp_path):
    made = model(cnn)
    made[3].stride = (2, 2)
    given = torch.randn(2, 3, 6, 6)
    assert outputs(packed(made, how, tmp_path), given) == outputs(made, given)


def test_a_checkpoint_takes_the_configuration_of_transformers_along(tmp_path):
    made = model(tied_llama)
    made.config.pad_token_id, made.config.id2label = 7, {0: "no", 1: "yes"}
    torch.save(made.state_dict(), tmp_path / "state.pt")
    lottapack.pack(tmp_path / "state.pt", tmp_path / S)
    loaded = lottapack.load(tmp_path / S)
    assert loaded.config.pad_token_id == 7
    assert loaded.config.id2label == {0: "no", 1: "yes"}


def test_a_checkpoint_with_another_configuration_resumes():
    made = model(tied_llama)
    made.config.pad_token_id = 7
    fresh = lottapack.scaffold(tied_llama(), seed=1, rank=2)
    fresh.load_state_dict(made.state_dict())
    assert outputs(fresh, TOKENS) == outputs(made, TOKENS)


LATE = {
    "a configuration": (tied_llama, lambda made: setattr(made.config, "use_cache", False)),  # as transformers' Trainer
    "a cast": (tied_llama, lambda made: made.to(torch.bfloat16)),
    "both": (tied_llama, lambda made: setattr(made.to(torch.bfloat16).config, "pad_token_id", 7)),
    "another activation": (layers, lambda made: made.__setitem__(1, nn.GELU())),
    "a frozen part": (layers, lambda made: made[2].requires_grad_(False)),
}


@pytest.mark.parametrize("late", LATE)
def test_a_checkpoint_resumes_in_the_model_of_its_pack(late, tmp_path):
    build, change = LATE[late]
    made = model(build)
    change(made)
    loaded = packed(made, "model", tmp_path)
    train(made)
    loaded.load_state_dict(made.state_dict())
    given = TOKENS if build is tied_llama else GIVEN
    assert outputs(loaded, given) == outputs(made, given)
    expected = outputs(made, given)
    train(made.train())
    made.load_state_dict(loaded.state_dict())
    assert outputs(made, given) == expected


def test_a_fresh_model_resumes_from_the_model_of_a_pack_once_it_is_configured_so(tmp_path):
    made = model(tied_llama)
    made.config.use_cache = False
    state = packed(made, "model", tmp_path).state_dict()
    fresh = lottapack.scaffold(tied_llama(), seed=1, rank=2)
    with pytest.raises(CheckpointError, match="another configuration: use_cache\n"):
        fresh.load_state_dict(state)
    fresh.config.use_cache = False
    fresh.load_state_dict(state)
    assert outputs(fresh, TOKENS) == outputs(made, TOKENS)


def test_a_model_that_nothing_was_done_to_says_nothing():
    text = bytes(model(tied_llama).state_dict()["lottapack_recipe"].numpy())
    assert b'"changed"' not in text
    assert b'"model_type"' in text
    assert text.count(b'"config"') == 1


# Other changes are refused or ignored by name


REFUSED = {
    "a hook before": (hooked, r"^0\.forward runs the forward pre-hook .*double_input", "0"),
    "a hook after": (lambda made: made[4].register_forward_hook(double_output), r"^4\.forward runs the .*_output", "4"),
    "a hook of the whole": (lambda made: made.register_forward_hook(double_output), r"^forward runs the", "forward"),
    "a partial hook": (
        lambda made: made[4].register_forward_hook(functools.partial(double_output)),
        r"^4\.forward runs the .*double_output",
        "4.forward",
    ),
    "another forward": (replaced_forward, r"^2\.forward is replaced by .*lambda", "2.forward"),
    "a function for a forward": (
        lambda made: setattr(made[1], "forward", functools.partial(nn.functional.leaky_relu, negative_slope=0.5)),
        r"^1\.forward is replaced by torch\.nn\.functional\.leaky_relu",
        "1",
    ),
    "some rows of a generated weight": (
        lambda made: made[0].backbone[3].zero_(),
        r"^0\.weight is not what its seed gives",
        "0.weight",
    ),
    "a class of one's own": (
        lambda made: set_class(made[2], Doubled),
        "^2 is a Doubled; in a Sequential built from its configuration it is a LayerNorm",
        "2",
    ),
    "a subclass of an adapted layer": (
        lambda made: set_class(made[0], type("Mine", (type(made[0]),), {"__module__": "mine"})),
        "^0 is a Mine; in a .* it is a Linear",
        "0",
    ),
    "the scaling": (lambda made: setattr(made[0], "scaling", 3.0), r"^0\.scaling is 3\.0; in .* it is 1\.0", "scaling"),
    "a frozen beta": (lambda made: made[0].beta.requires_grad_(False), r"^0\.beta does not train", "*.beta"),
    "a frozen A": (lambda made: made[0].lora_A.requires_grad_(False), r"^0\.lora_A does not train", "lora_A"),
    "a tie": (lambda made: setattr(made[2], "weight", made[2].bias), r"^2\.(weight|bias) is tied to 2\.", "2"),
    "a generated weight, a little": (lambda made: made[0].backbone.mul_(1.01), r"^0\.weight is not what", "0.weight"),
    "a generated weight": (lambda made: made[0].backbone.mul_(2), r"^0\.weight is not what its seed gives", "0.weight"),
}


@HOW
@pytest.mark.parametrize("change", REFUSED)
def test_what_no_configuration_tells_is_refused_by_name_or_left_out(change, how, tmp_path):
    apply, said, ignored = REFUSED[change]
    made = model()
    due = outputs(made)
    apply(made)
    if "generated weight" in change and how == "model":
        with pytest.warns(lottapack.errors.BackboneChangedWarning):
            packed(made, how, tmp_path)
        return
    with pytest.raises(CheckpointError, match=said) as caught:
        packed(made, how, tmp_path)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())
    result = lottapack.pack(made if how == "model" else made.state_dict(), tmp_path / S, ignore=ignored)
    assert result.left_out
    if change != "a tie":
        assert outputs(lottapack.load(tmp_path / S)) == due


def test_copies_and_pickles_of_a_model_are_looked_at_too(tmp_path):
    made = model()
    hooked(made)
    with pytest.raises(CheckpointError, match="double_input"):
        packed(copy.deepcopy(made), "state", tmp_path)
    torch.save(made, tmp_path / "whole.pt")
    again = torch.load(tmp_path / "whole.pt", weights_only=False)
    with pytest.raises(CheckpointError, match="double_input"):
        packed(again, "model", tmp_path)


def test_a_loaded_model_is_looked_at_too(tmp_path):
    loaded = packed(model(), "model", tmp_path)
    loaded[2].forward = lambda x: x
    with pytest.raises(CheckpointError, match=r"2\.forward is replaced"):
        packed(loaded, "state", tmp_path)


@HOW
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_wrapped_layer_is_refused_by_its_class(place, how, tmp_path):
    made = model()
    wrapped(made, place)
    with pytest.raises(CheckpointError, match=f"^{place} is a Around; in a .* it is a L") as caught:
        packed(made, how, tmp_path)
    assert "Put the layer back" in str(caught.value)
    made[place] = made[place].inner
    packed(made, how, tmp_path)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_names_that_a_wrapper_changed_say_which(place, tmp_path):
    """Another tool may rename them without the recipe."""
    state = model().state_dict()
    renamed = {name.replace(f"{place}.", f"{place}.inner."): tensor for name, tensor in state.items()}
    with pytest.raises(CheckpointError, match=rf"lacks {place}\.\w+, but contains {place}\.inner\.\w+") as caught:
        lottapack.pack(renamed, tmp_path / S)
    assert f"'{place}.inner.'" in str(caught.value)
    lottapack.pack({name.replace(f"{place}.inner.", f"{place}."): t for name, t in renamed.items()}, tmp_path / S)


@HOW
def test_a_plain_layer_in_the_place_of_an_adapted_one_is_refused(how, tmp_path):
    made = model()
    before, made[0] = made[0], nn.Linear(16, 12)
    with pytest.raises(CheckpointError, match=r"^0 is a torch\.nn\.modules\.linear\.Linear; in a .* it has an adapter"):
        packed(made, how, tmp_path)
    made[0] = before
    packed(made, how, tmp_path)


@pytest.mark.filterwarnings("ignore:.*(torch.ao.quantization|quantize_dynamic|quantized):DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@HOW
def test_a_quantised_model_is_refused_with_what_can_be_done(how, tmp_path):
    made = model().eval()
    given = torch.ao.quantization.quantize_dynamic(made, {nn.Linear})
    with pytest.raises(CheckpointError, match=r"^4 is a torch\.ao\..*Linear; in a .* it is a torch") as caught:
        packed(given, how, tmp_path)
    assert "load(PACK, merge=True)" in str(caught.value)
    packed(made, how, tmp_path)
    merged = torch.ao.quantization.quantize_dynamic(lottapack.load(tmp_path / S, merge=True).eval(), {nn.Linear})
    assert torch.allclose(merged(GIVEN), made(GIVEN), atol=0.3)


@HOW
def test_other_values_of_what_the_constructor_computes_are_refused(how, tmp_path):
    made = model(tied_llama)
    made.model.rotary_emb.inv_freq.mul_(0.5)
    with pytest.raises(CheckpointError, match=r"rotary_emb\.inv_freq, which no checkpoint holds, has other values"):
        packed(made, how, tmp_path)
    packed(lottapack.nn.regenerate_(made), how, tmp_path)


@HOW
def test_attributes_of_a_library_are_compared(how, tmp_path):
    made = model(tied_llama)
    made.model.norm.variance_epsilon = 0.25
    with pytest.raises(CheckpointError, match=r"model\.norm\.variance_epsilon is 0\.25; in a Llama.* it is 1e-06"):
        packed(made, how, tmp_path)
    made.model.norm.variance_epsilon = 1e-6
    made.config.rms_norm_eps = 0.25
    with pytest.raises(CheckpointError, match=r"variance_epsilon is 1e-06; in a Llama.* it is 0\.25"):
        packed(made, how, tmp_path)
    made.model.norm.variance_epsilon = 0.25
    for layer in made.model.layers:
        layer.input_layernorm.variance_epsilon = layer.post_attention_layernorm.variance_epsilon = 0.25
    assert outputs(packed(made, how, tmp_path), TOKENS) == outputs(made, TOKENS)


def funnel():
    from transformers import FunnelConfig, FunnelModel

    return FunnelModel(FunnelConfig(vocab_size=32, d_model=16, n_head=2, d_head=8, d_inner=24, block_sizes=[1, 1]))


@HOW
def test_what_a_forward_pass_of_a_library_keeps_is_no_change(how, tmp_path):
    """Funnel keeps a number of its last forward pass in a helper, where its constructor sets None."""
    made = lottapack.scaffold(funnel(), seed=1, rank=2).eval()
    expected = bits(made(TOKENS).last_hidden_state)
    assert made.encoder.attention_structure.pooling_mult is not None
    with pytest.warns(LeftOutWarning, match=r"pooling_mult: the pack leaves these values out.*has None there"):
        loaded = packed(made, how, tmp_path)
    assert bits(loaded(TOKENS).last_hidden_state) == expected
    packed(made, how, tmp_path, ignore="*.pooling_mult")


class Remembering(nn.Module):
    """A module of one's own: forward() keeps the length, and a method of it, which users call, sets a factor."""

    def __init__(self):
        super().__init__()
        self.inner, self.length, self.factor = layers(), None, None

    def forward(self, x):
        self.length = len(x)
        return self.inner(x) if self.factor is None else self.factor * self.inner(x)

    def double(self):
        self.factor = 2


@HOW
def test_what_forward_keeps_is_left_out_and_what_a_method_sets_is_refused(how, tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Remembering"), seed=1, rank=2)
    made(GIVEN)
    state = made if how == "model" else made.state_dict()
    with pytest.warns(LeftOutWarning, match="^length: the pack leaves this value out"):
        lottapack.pack(state, tmp_path / S)
    made.double()
    with pytest.raises(CheckpointError, match=r"^factor is 2; in a .* it is None"):
        packed(made, how, tmp_path, ignore="length")


def test_an_option_that_the_constructor_leaves_out_is_a_change(tmp_path):
    made = model(tied_llama)
    made.model.embed_tokens.max_norm = 0.5
    with pytest.raises(CheckpointError, match=r"embed_tokens\.max_norm is 0\.5; in a Llama.* it is None"):
        packed(made, "model", tmp_path)


def bert():
    from transformers import DistilBertConfig, DistilBertModel

    return DistilBertModel(DistilBertConfig(vocab_size=32, dim=16, n_layers=1, n_heads=2, hidden_dim=24))


def without_dropout(made):
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


@HOW
def test_dropout_changes_no_output_so_a_warning_says_that_it_is_not_kept(how, tmp_path):
    made = lottapack.scaffold(bert(), seed=1, rank=2)
    without_dropout(made)
    with pytest.warns(
        LeftOutWarning, match=r"^embeddings\.dropout\.p and 2 more: the pack does not keep dropout\. .*"
    ) as told:
        loaded = packed(made, how, tmp_path)
    assert "drops 0 in training" in str(told[0].message) and "drops 0.1 in training" in str(told[0].message)
    assert bits(loaded(TOKENS).last_hidden_state) == bits(made.eval()(TOKENS).last_hidden_state)
    packed(made, how, tmp_path, ignore="*.p")
    made.config.dropout = made.config.attention_dropout = 0.0
    assert packed(made, how, tmp_path).embeddings.dropout.p == 0


@pytest.mark.parametrize("place", ["config", "attribute"])
def test_dropout_of_attention_is_dropout_too(place, tmp_path):
    made = model(tied_llama)
    changed = made.config if place == "config" else made.model.layers[0].self_attn
    changed.attention_dropout = 0.25
    with pytest.warns(LeftOutWarning, match="the pack does not keep dropout"):
        packed(made, "model", tmp_path)


@pytest.mark.parametrize("word", ["sparse", "scale_grad_by_freq"])
def test_how_an_embedding_gives_gradients_changes_no_output(word, tmp_path):
    net = nn.Sequential(nn.Embedding(10, 4, **{word: True}), nn.Linear(4, 4), nn.Linear(4, 2))
    made = lottapack.scaffold(net, seed=1, rank=2)
    with pytest.warns(LeftOutWarning, match=rf"^0\.{word}: the pack does not keep how an embedding .* {word}=True; "):
        loaded = packed(made, "model", tmp_path)
    assert bits(loaded(TOKENS)) == bits(made(TOKENS))
    packed(made, "model", tmp_path, ignore=f"0.{word}")


class Dropping(nn.Module):
    """A module of one's own, whose share acts in evaluation too."""

    def __init__(self):
        super().__init__()
        self.inner, self.dropout = layers(), 0.5

    def forward(self, x):
        return self.inner(x) * self.dropout


def test_dropout_of_a_module_of_ones_own_is_a_change(tmp_path):
    made = lottapack.scaffold(lottapack.build("python", f"{__name__}:Dropping"), seed=1, rank=2)
    made.dropout = 0.0
    with pytest.raises(CheckpointError, match=r"^dropout is 0; in a .* it is 0\.5"):
        packed(made, "model", tmp_path)


def test_a_model_that_is_frozen_as_a_whole_is_one_to_be_evaluated(tmp_path):
    packed(model().requires_grad_(False), "state", tmp_path)


def test_a_whole_adapter_that_is_frozen_is_named(tmp_path):
    made = model()
    for part in (made[0].lora_A, made[0].lora_B, made[0].beta):
        part.requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"^0\.beta does not train.*2 more: 0\.lora_A, 0\.lora_B"):
        packed(made, "model", tmp_path)
    loaded = packed(made, "model", tmp_path, ignore=["0.lora_A", "0.lora_B", "0.beta"])
    assert loaded[0].beta.requires_grad


# Observing a model or running it differently is not a change


def averaged(made):
    average = torch.optim.swa_utils.AveragedModel(
        made, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    train(made, seed=3)
    for _ in range(20):
        average.update_parameters(made)
    return average


RUN = {
    "compiled": lambda made: torch.compile(made, backend="eager"),
    "compiled in place": lambda made: made.compile(backend="eager"),
    "a compiled part": lambda made: made.__setitem__(0, torch.compile(made[0], backend="eager")),
    "a compiled forward": lambda made: setattr(made, "forward", torch.compile(made.forward, backend="eager")),
    "data parallel": lambda made: made.__setitem__(0, nn.DataParallel(made[0])),
    "averaged": averaged,
    "its own forward": lambda made: setattr(made[0], "forward", made[0].forward),
    "a note": lambda made: setattr(made[0], "note", "x"),
    "inference": lambda made: made.eval(),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@HOW
@pytest.mark.parametrize("run", RUN)
def test_how_a_model_is_run_is_no_change(run, how, tmp_path):
    made = model()
    made = RUN[run](made) or made
    assert outputs(packed(made, how, tmp_path)) == outputs(made)


@HOW
def test_a_synchronised_norm_is_the_norm(how, tmp_path):
    made = model(cnn)
    packed(nn.SyncBatchNorm.convert_sync_batchnorm(made), how, tmp_path)


@pytest.mark.parametrize("how", ["model", "state"])
def test_a_sharded_norm_is_the_norm(how, tmp_path):
    made = model(cnn)
    norm = next(module for module in made if isinstance(module, nn.BatchNorm2d))
    # As fully_shard() changes the class of the module that it shards.
    norm.__class__ = type("FSDPBatchNorm2d", (nn.BatchNorm2d,), {"__module__": "torch.distributed.fsdp"})
    packed(made, how, tmp_path)


def large():
    return nn.Sequential(nn.Linear(256, 160), nn.ReLU(), nn.Linear(160, 4))


UNSAMPLED = 70, 200
"""An element that no sample of a (160, 256) weight holds."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_one_element_of_a_large_weight_is_compared_too(layout, dtype, tmp_path):
    made = model(large).to(dtype)
    weight = made[0].backbone
    if layout == "columns":
        weight = made[0]._buffers["backbone"] = weight.t().contiguous().t()
    before = weight[UNSAMPLED].clone()
    assert UNSAMPLED[0] * 256 + UNSAMPLED[1] not in changes._places(weight.shape)
    packed(made, "state", tmp_path)
    weight.data[UNSAMPLED] *= 2
    with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives"):
        packed(made, "state", tmp_path)
    weight.data[UNSAMPLED] = before
    packed(made, "state", tmp_path)


def test_one_element_of_a_large_weight_that_torch_drew_is_compared_too(tmp_path):
    torch.manual_seed(3)
    drawn = large()
    lottapack.pack(lottapack.recover.torch_cpu(drawn, seed=3, architecture=drawn), tmp_path / S)
    loaded = lottapack.load(tmp_path / S)
    loaded.state_dict()
    held = next(weight for name, weight in loaded.named_buffers() if weight.shape == (160, 256))
    held[UNSAMPLED] += 1
    with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives"):
        packed(loaded, "state", tmp_path)


def test_one_element_of_a_small_weight_that_moved_a_little_is_a_change(tmp_path):
    made = model(mlp)
    made[0].backbone[3, 5] *= 1 + 2**-12
    with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives"):
        packed(made, "state", tmp_path)


@pytest.mark.parametrize("copies", [3, 7])
def test_an_average_over_equal_models_is_no_change(copies, tmp_path):
    made = model(large)
    made[0].backbone.copy_(sum(made[0].backbone for _ in range(copies)) / copies)
    packed(made, "state", tmp_path)


def test_a_weight_that_average_rounding_moved_is_no_change(tmp_path):
    made = model(mlp)
    made[0].backbone.mul_(1 + 2**-10)
    packed(made, "state", tmp_path)


class Scaled(nn.Module):
    """A library's class: a method, a function and numbers that its forward uses."""

    factor = 2.0

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 12)
        self.act = nn.functional.relu
        self.sizes = {"a": 1}
        self._offset = 1.0

    def scaled(self, x):
        return self.factor * x

    def forward(self, x):
        return self.scaled(self.act(self.fc(x))) + self._offset


SET = {
    "_offset": 3.0,
    "act": nn.functional.gelu,
    "factor": 3.0,
    "scaled": lambda x: x,
    "sizes": {"a": 2},
}


@HOW
@pytest.mark.parametrize("attribute", SET)
def test_attributes_of_a_module_of_ones_own_are_compared(attribute, how, tmp_path):
    made = train(lottapack.scaffold(lottapack.build("python", "test_changes:Scaled"), seed=1, rank=2, targets="fc"))
    lottapack.pack(made, tmp_path / S, allow="test_changes")
    setattr(made, attribute, SET[attribute])
    with pytest.raises(CheckpointError, match=rf"^{attribute} is .*; in a test_changes:Scaled.* it is .*"):
        packed(made, how, tmp_path)
    given = made if how == "model" else made.state_dict()
    assert lottapack.pack(given, tmp_path / S, allow="test_changes", ignore=attribute).left_out == (attribute,)


class Configured(Scaled):
    """As diffusers keeps a model's configuration: save_pretrained() adds notes to it."""

    def __init__(self):
        super().__init__()
        self._internal_dict = {"norm_num_groups": 4, "_use_default_values": ["norm_num_groups"]}


@HOW
def test_notes_of_diffusers_in_a_configuration_are_no_change(how, tmp_path):
    built = lottapack.build("python", "test_changes:Configured")
    made = train(lottapack.scaffold(built, seed=1, rank=2, targets="fc"))
    made._internal_dict |= {"_class_name": "Configured", "_diffusers_version": "0.42.1"}
    lottapack.pack(made if how == "model" else made.state_dict(), tmp_path / S, allow="test_changes")
    made._internal_dict["norm_num_groups"] = 2
    with pytest.raises(CheckpointError, match=r"^_internal_dict is \{'norm_num_groups': 2\}; .* it is .* 4"):
        packed(made, how, tmp_path)


@pytest.mark.parametrize(("one", "other"), [(0.5, torch.tensor(0.5).numpy()[()]), (1, 1.0), ((1, 2), [1, 2])])
def test_numbers_that_are_equal_are_no_change(one, other, tmp_path):
    made = train(lottapack.scaffold(lottapack.build("python", "test_changes:Scaled"), seed=1, rank=2, targets="fc"))
    made.sizes = one
    noted = as_built(made)
    made.sizes = other
    assert noted.differences(made) == {}


def test_layers_that_changed_places_are_refused(tmp_path):
    made = model(lambda: nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)))
    made[0], made[1] = made[1], made[0]
    with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives.*1 more: 1\.weight"):
        packed(made, "state", tmp_path)


@pytest.mark.parametrize("other", [{"seed": 2}, {"scale": 0.01}, {"distribution": "uniform16"}], ids=str)
@pytest.mark.parametrize(("backbone", "how"), [("materialised", "state"), ("blocks", "state"), ("blocks", "model")])
def test_a_layer_of_another_model_is_refused(backbone, how, other, tmp_path):
    """Under the same name, so that only the way in which its weight is drawn tells."""
    made = model(backbone=backbone)
    made[0] = model(backbone=backbone, **other)[0]
    with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives"):
        packed(made, how, tmp_path)


def test_a_layer_with_another_table_of_the_same_id_is_refused(tmp_path):
    ours, theirs = (lottapack.table(lambda p, power=power: (p - 0.5) ** power, bits=4, id="own") for power in (1, 3))
    made = model(distribution=ours, scale=0.1)
    made[0] = model(distribution=theirs, scale=0.1)[0]
    with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives"):
        packed(made, "state", tmp_path)


def test_a_layer_of_an_equal_model_comes_back(tmp_path):
    made = model()
    made[0] = copy.deepcopy(model()[0])
    given = outputs(made)
    assert outputs(packed(made, "state", tmp_path)) == given


@pytest.mark.parametrize("shape", [(300, 200), (20_000, 3), (5, 7_000)], ids=str)
def test_one_row_or_one_column_that_was_set_is_seen(shape, tmp_path):
    """Such as that of a padding token."""
    made = lottapack.scaffold(
        nn.Sequential(nn.Embedding(*shape), nn.Linear(shape[1], 4)), seed=1, rank=1, targets=["1"], train=[]
    )
    weight = made[0].weight.clone()
    for dim in (0, 1):
        for number in range(0, shape[dim], 1 + shape[dim] // 20):
            made[0].weight.data.movedim(dim, 0)[number] = 0.0
            with pytest.raises(CheckpointError, match=r"^0\.weight is not what its seed gives"):
                packed(made, "state", tmp_path)
            made[0].weight.copy_(weight)
    packed(made, "state", tmp_path)


def test_one_row_of_one_expert_that_was_set_is_seen(tmp_path):
    made = lottapack.scaffold(mixtral(hidden_size=64, intermediate_size=96), seed=1, train=["heads"], targets=[])
    experts(made).down_proj[2, 5] = 0.0
    with pytest.raises(CheckpointError, match=r"mlp\.experts\.down_proj is not what its seed gives"):
        packed(made, "state", tmp_path)


def mixtral(**options):
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, **options}
    return MixtralForCausalLM(MixtralConfig(vocab_size=32, num_local_experts=4, **sizes))


def experts(made, block=0):
    return made.model.layers[block].mlp.experts


def exchanged(made):
    first, second = made.model.layers[0].mlp, made.model.layers[1].mlp
    first.experts, second.experts = second.experts, first.experts


EXPERTS = {
    "a frozen beta": (
        lambda made: experts(made).gate_up_proj_beta.requires_grad_(False),
        r"experts\.gate_up_proj_beta does not train",
    ),
    "a generated weight": (
        lambda made: experts(made).down_proj_backbone.mul_(2),
        r"experts\.down_proj is not what its seed gives",
    ),
    "another place": (exchanged, r"experts\.\w+ is not what its seed gives"),
    "a tie": (
        lambda made: setattr(made.model.layers[1].mlp, "experts", experts(made)),
        r"^model\.layers\.1\.mlp\.experts\.\w+ (is tied to model\.layers\.0|is not what its seed)",
    ),
    "a wrapper": (
        lambda made: setattr(made.model.layers[0].mlp, "experts", Around(experts(made))),
        r"^model\.layers\.0\.mlp\.experts is a Around; in a .* it is a MixtralExperts",
    ),
    "a class": (
        lambda made: set_class(experts(made), type("Mine", (type(experts(made)),), {"__module__": "mine"})),
        r"^model\.layers\.0\.mlp\.experts is a Mine; in a .* it is a MixtralExperts",
    ),
}


@pytest.mark.parametrize("change", EXPERTS)
def test_changes_of_modules_of_any_class_are_refused(change, tmp_path):
    made = model(mixtral)
    assert b'"changed"' not in bytes(made.state_dict()["lottapack_recipe"].numpy())
    apply, said = EXPERTS[change]
    apply(made)
    with pytest.raises(CheckpointError, match=said):
        packed(made, "state", tmp_path)


@pytest.mark.parametrize("given", [3, None, torch.nn.Parameter(torch.zeros(2)), ["a"]])
def test_what_is_no_model_is_refused(given, tmp_path):
    with pytest.raises(CheckpointError, match="a model, its state_dict or the path of a checkpoint, not"):
        lottapack.pack(given, tmp_path / S)


def test_a_module_that_is_gone_is_refused_when_it_is_packed(tmp_path):
    made = model()
    made[3] = None
    with pytest.raises(CheckpointError, match=r"^3 is not there; in a .* it is a torch\.nn\.modules\.dropout\.Dropout"):
        packed(made, "state", tmp_path)


def test_a_state_dict_of_fake_tensors_can_be_made():
    from torch._subclasses import FakeTensorMode

    made, mode = model(tied_llama), FakeTensorMode()
    for module in made.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and name != "lottapack_recipe":
                module._buffers[name] = mode.from_tensor(buffer)
    assert b"changed" not in bytes(made.state_dict()["lottapack_recipe"].numpy())


# transformers' ties


@pytest.mark.parametrize("options", [{}, {"targets": ["*.embed_tokens", "*_proj"], "train": ["norms"]}])
@pytest.mark.parametrize("tied", [False, True])
def test_tie_weights_after_the_configuration_was_changed_is_refused(tied, options):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = model(lambda: LlamaForCausalLM(LlamaConfig(vocab_size=32, tie_word_embeddings=tied, **sizes)), **options)
    before = outputs(made, TOKENS)
    made.tie_weights()
    made.config.tie_word_embeddings = not tied
    with pytest.raises(ScaffoldError, match=f"tie_word_embeddings is {not tied}, and was {tied}"):
        made.tie_weights()
    made.config.tie_word_embeddings = tied
    made.tie_weights()
    assert outputs(made, TOKENS) == before


def test_a_head_that_was_tied_by_hand_is_refused(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = model(lambda: LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)), targets="*_proj", train="norms")
    made.lm_head.weight = made.model.embed_tokens.weight
    with pytest.raises(CheckpointError, match=r"^lm_head\.weight is not what its seed gives"):
        packed(made, "state", tmp_path)


class Calibrated(nn.Module):
    """Reads attributes that its constructor does not set."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        if not hasattr(self, "cache"):
            self.cache = 1
        self.keep()
        out = self.last(self.first(x)) / getattr(self, "temperature", 1.0)
        return self.after(out) if "after" in self._modules else out

    def keep(self):
        if not hasattr(self, "sum"):
            setattr(self, "sum", 2)  # noqa: B010
            self.__dict__["product"] = 3
        return self.product


@pytest.mark.parametrize("how", ["model", "state"])
@pytest.mark.parametrize(("name", "value"), [("temperature", 2.0), ("after", nn.Tanh())])
def test_an_attribute_that_only_the_user_set_is_refused_if_it_is_read(name, value, how, tmp_path):
    model = lottapack.scaffold(lottapack.build("python", "test_changes:Calibrated"), seed=1, rank=2, targets=["first"])
    model(torch.ones(1, 4))
    model.note = "read by nobody"
    path = tmp_path / "model.lotta.safetensors"
    lottapack.pack(model, path)
    setattr(model, name, value)
    with pytest.raises(CheckpointError, match=rf"^{name} is .*; in a .*Calibrated .* it is not there"):
        lottapack.pack(model if how == "model" else model.state_dict(), path)
    lottapack.pack(model, path, ignore=name)


class Holder(nn.Module):
    """A module of one's own around the scaffolded model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


class Doubles(Holder):
    def forward(self, x):
        return self.net(x) * 2


class Activates(Holder):
    def forward(self, x):
        return torch.softmax(self.net(x), -1)


class Steps(Holder):
    def forward(self, x):
        return self.step(x)

    def step(self, x):
        return -self.net(x)


class PassesOn(Holder):
    def forward(self, *args, **options):
        return self.net(*args, **options)


class Calls(Holder):
    def forward(self, x):
        return self.net.forward(x)


@pytest.mark.parametrize("cls", [Doubles, Activates, Steps])
def test_what_a_module_around_the_model_computes_is_told(cls, tmp_path):
    model = lottapack.scaffold(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), seed=1, rank=1)
    with pytest.warns(LeftOutWarning, match=rf"net \(Sequential\) alone, and not what {cls.__name__}.forward") as told:
        result = lottapack.pack(cls(model), tmp_path / "a.lotta.safetensors")
    assert told[0].filename == __file__
    assert result.path.read_bytes() == lottapack.pack(model, tmp_path / "b.lotta.safetensors").path.read_bytes()


@pytest.mark.parametrize("cls", [Holder, PassesOn, Calls, nn.DataParallel])
def test_modules_that_only_hold_the_model_are_no_news(cls, tmp_path):
    model = lottapack.scaffold(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), seed=1, rank=1)
    assert lottapack.pack(cls(model), tmp_path / "a.lotta.safetensors").size


def test_a_sequence_around_the_scaffolded_model_is_no_wrapper(tmp_path):
    model = lottapack.scaffold(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), seed=1, rank=1)
    path = tmp_path / "m.lotta.safetensors"
    whole = nn.Sequential(model, nn.Tanh())
    with pytest.raises(CheckpointError, match=r"leave out 1 \(a Tanh\)"):
        lottapack.pack(whole, path)
    assert not path.exists()
    lottapack.pack(whole, path, ignore="1")
    lottapack.pack(nn.Sequential(model), path)
    lottapack.pack(nn.Sequential(nn.Identity(), model), path)
    lottapack.pack(model, path)


@pytest.mark.parametrize("before", [True, False])
def test_an_encoder_that_its_library_froze_is_as_built(before, tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    convolutions = {"conv_dim": (8,), "conv_stride": (5,), "conv_kernel": (10,), "num_feat_extract_layers": 1}
    config = Wav2Vec2Config(
        vocab_size=8, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, **sizes | convolutions
    )
    made = Wav2Vec2ForCTC(config)
    if before:
        made.freeze_feature_encoder()
    made = lottapack.scaffold(made, seed=1, rank=2, targets=["q_proj"], train=["heads"])
    if not before:
        made.freeze_feature_encoder()
    given = torch.randn(1, 400, generator=torch.Generator().manual_seed(1))
    assert outputs(packed(made, "model", tmp_path), given) == outputs(made, given)
