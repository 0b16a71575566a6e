"""A pack holds the current model: casts and changes of requires_grad since scaffold()."""

import copy
import json

import msgspec
import pytest
import torch
from models import all_bits, bits, cnn, mlp, tied_llama, train
from torch import nn

import lottapack
from lottapack import comparing
from lottapack.errors import ArchitectureError, CheckpointError
from lottapack.format import recipe
from lottapack.format.packfile import open_pack

TOKENS = torch.tensor([[1, 5, 7, 3, 2, 9]])
S = ".lotta.safetensors"


def llama(**options):
    return train(lottapack.scaffold(tied_llama(), seed=2, rank=2, **options))


def outputs(model):
    with torch.no_grad():
        return bits(model.eval()(TOKENS).logits)


def source(model, how, tmp_path):
    if how == "state":
        return model.state_dict()
    if how == "file":
        torch.save(model.state_dict(), tmp_path / "state.pt")
        return tmp_path / "state.pt"
    if how == "folder":
        model.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"
    return model


def packed(model, tmp_path, how="model", name="p"):
    path = tmp_path / f"{name}{S}"
    lottapack.pack(source(model, how, tmp_path), path)
    return path


def computed(path):
    with open_pack(path) as pack:
        return pack.descriptor.computed or {}


CASTS = {
    "whole, after": lambda: llama().to(torch.bfloat16),
    "whole, before": lambda: train(lottapack.scaffold(tied_llama().bfloat16(), seed=2, rank=2)),
    "half": lambda: llama().half(),
    "with its backbone": lambda: llama(persistent=True).to(torch.bfloat16),
}


@pytest.mark.parametrize("how", ["model", "state", "file", "folder"])
@pytest.mark.parametrize("cast", CASTS)
def test_what_the_constructor_computes_comes_back_as_it_was(cast, how, tmp_path):
    model = CASTS[cast]()
    path = packed(model, tmp_path, how)
    loaded = lottapack.load(path)
    assert outputs(loaded) == outputs(model)
    assert {n: b.dtype for n, b in loaded.named_buffers()} == {n: b.dtype for n, b in model.named_buffers()}
    assert packed(loaded, tmp_path, name="again").read_bytes() == path.read_bytes()
    merged = lottapack.load(path, merge=True)
    assert merged.model.rotary_emb.inv_freq.dtype == model.model.rotary_emb.inv_freq.dtype
    merged(TOKENS)


def test_a_model_that_was_not_cast_says_nothing_of_it(tmp_path):
    model = llama()
    assert computed(packed(model, tmp_path)) == {}
    assert b"dtypes" not in bytes(model.state_dict()["lottapack_recipe"].numpy())


def test_buffers_that_were_cast_alone_come_back(tmp_path):
    model = llama()
    model.model.rotary_emb.to(torch.bfloat16)
    path = packed(model, tmp_path, "state")
    assert set(computed(path).values()) == {"bfloat16"}
    loaded = lottapack.load(path)
    assert loaded.model.rotary_emb.inv_freq.dtype == torch.bfloat16
    assert loaded.model.layers[0].mlp.up_proj.backbone.dtype == torch.float32
    assert outputs(loaded) == outputs(model)


def test_a_model_with_wide_frequencies_keeps_them(tmp_path):
    model = llama()
    wide = model.model.rotary_emb.inv_freq
    model.to(torch.bfloat16)
    model.model.rotary_emb.inv_freq = wide
    path = packed(model, tmp_path)
    assert computed(path).keys() == {"model.rotary_emb.original_inv_freq"}
    assert outputs(lottapack.load(path)) == outputs(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_part_is_cast_as_any_other(tmp_path):
    model = llama().to(torch.bfloat16)
    expected = packed(model, tmp_path).read_bytes()
    model.model.rotary_emb = torch.compile(model.model.rotary_emb)
    assert packed(model, tmp_path, "state", "b").read_bytes() == expected


def test_another_dtype_is_that_of_a_cast_of_the_loaded_model(tmp_path):
    model = llama().to(torch.bfloat16)
    path = packed(model, tmp_path)
    wide = lottapack.load(path, dtype=torch.float32)
    assert outputs(wide) == outputs(lottapack.load(path).to(torch.float32))
    plain = packed(llama(), tmp_path, name="plain")
    assert lottapack.load(plain, dtype=torch.bfloat16).model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize("merge", [False, True])
def test_load_meta_and_fill_give_the_same(merge, tmp_path):
    model = llama().to(torch.bfloat16)
    path = packed(model, tmp_path)
    filled = lottapack.distributed.fill_(lottapack.distributed.load_meta(path, merge=merge), path)
    assert outputs(filled) == outputs(lottapack.load(path, merge=merge))
    assert filled.model.rotary_emb.inv_freq.dtype == torch.bfloat16


def test_regenerate_keeps_the_dtype():
    model = llama().to(torch.bfloat16)
    before = all_bits(model)
    model.model.rotary_emb.inv_freq.zero_()
    assert all_bits(lottapack.nn.regenerate_(model)) == before


def test_compare_builds_what_pack_writes(tmp_path):
    model = llama().to(torch.bfloat16)
    state = source(model, "file", tmp_path)
    built = comparing.trained(state)
    assert outputs(built) == outputs(model)
    given = {"input_ids": TOKENS, "use_cache": False}
    result = lottapack.pack(state, tmp_path / S, check=lambda new: lottapack.compare(built, new, given))
    assert result.checked.unmerged == 0


def test_a_name_that_nothing_is_computed_under_is_refused(tmp_path):
    from lottapack.folders.bases import rewritten

    path = packed(llama().to(torch.bfloat16), tmp_path)
    with open_pack(path) as pack:
        other = msgspec.structs.replace(pack.descriptor, computed={"model.rotary_emb.gone": "bfloat16"})
        data = rewritten(pack, other)
    path.write_bytes(data)
    with pytest.raises(ArchitectureError, match=r"does not compute model\.rotary_emb\.gone"):
        lottapack.load(path)


@pytest.mark.parametrize("dtypes", [{"0.bias": "float16"}, {"0.weight": "int64"}, {"a": "float8"}, {}, []])
def test_a_recipe_with_faulty_dtypes_is_refused(dtypes):
    state = lottapack.scaffold(mlp(), seed=1, rank=2).state_dict()
    said = json.loads(bytes(state["lottapack_recipe"].numpy()))
    text = json.dumps({**said, "dtypes": dtypes}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    with pytest.raises(CheckpointError, match="recipe"):
        recipe.parse(text.encode())


# Values


def test_other_values_of_a_computed_buffer_are_refused(tmp_path):
    model = llama()
    model.model.rotary_emb.inv_freq.mul_(0.5)
    with pytest.raises(CheckpointError, match=r"inv_freq, which no checkpoint holds, has other values"):
        packed(model, tmp_path)
    assert not list(tmp_path.iterdir())
    expected = packed(llama(), tmp_path).read_bytes()
    assert packed(lottapack.nn.regenerate_(model), tmp_path, name="b").read_bytes() == expected


def test_a_cast_and_back_is_refused_or_undone(tmp_path):
    model = llama().to(torch.bfloat16).float()
    with pytest.raises(CheckpointError, match="other values"):
        packed(model, tmp_path)
    packed(lottapack.nn.regenerate_(model), tmp_path)


def test_what_a_forward_pass_makes_anew_is_no_change(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    config = LlamaConfig(vocab_size=32, max_position_embeddings=8, rope_parameters=rope, **sizes)
    model = lottapack.scaffold(LlamaForCausalLM(config), seed=1, rank=2)
    fresh = model.model.rotary_emb.inv_freq.clone()
    model(torch.arange(30)[None])
    assert not torch.equal(model.model.rotary_emb.inv_freq, fresh)
    packed(model, tmp_path)


# Tools may cast a whole checkpoint


def cast(state, dtype):
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("build", [mlp, cnn, tied_llama])
def test_a_half_checkpoint_of_a_float32_model_is_a_float32_model(build, dtype, persistent, tmp_path):
    model = train(lottapack.scaffold(build(), seed=2, rank=2, persistent=persistent))
    state = cast(model.state_dict(), dtype)
    lottapack.pack(state, tmp_path / S)
    loaded = lottapack.load(tmp_path / S)
    held = {tensor.dtype for tensor in [*loaded.parameters(), *loaded.buffers()] if tensor.is_floating_point()}
    assert held == {torch.float32}
    again = loaded.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and name in again:
            assert bits(again[name]) == bits(value.float()), name
    assert bits(loaded[0].backbone if build is not tied_llama else loaded.model.layers[0].mlp.up_proj.backbone) == bits(
        model[0].backbone if build is not tied_llama else model.model.layers[0].mlp.up_proj.backbone
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_wide_checkpoint_of_a_narrow_model_is_a_narrow_model(when, tmp_path):
    """As tools that consolidate shards write: master weights in float32."""
    model = llama().to(torch.bfloat16) if when == "after" else CASTS["whole, before"]()
    lottapack.pack(cast(model.state_dict(), torch.float32), tmp_path / S)
    assert (tmp_path / S).read_bytes() == packed(model, tmp_path).read_bytes()
    assert outputs(lottapack.load(tmp_path / S)) == outputs(model)


@pytest.mark.parametrize("how", ["model", "state"])
def test_what_is_mixed_stays_mixed(how, tmp_path):
    model = train(lottapack.scaffold(mlp().bfloat16(), seed=2, rank=2))
    for parameter in model.parameters():
        parameter.data = parameter.float()
    loaded = lottapack.load(packed(model, tmp_path, how))
    assert {n: p.dtype for n, p in loaded.named_parameters()} == {n: p.dtype for n, p in model.named_parameters()}
    assert loaded[0].backbone.dtype == torch.bfloat16


@pytest.mark.parametrize("how", ["model", "state", "file"])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_model_that_was_widened_is_refused(persistent, how, tmp_path):
    model = lottapack.scaffold(mlp().bfloat16(), seed=2, rank=2, persistent=persistent)
    with pytest.raises(CheckpointError, match=r"is float32 now, but was bfloat16 at scaffold\(\)"):
        packed(model.float(), tmp_path, how)


@pytest.mark.parametrize("how", ["model", "state", "file"])
@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float16), (torch.float16, torch.bfloat16)])
def test_a_model_in_another_dtype_of_the_same_size_is_refused(dtypes, how, tmp_path):
    """Neither rounds to the other, so the loaded backbone would not fit the parameters beside it."""
    model = lottapack.scaffold(mlp().to(dtypes[0]), seed=2, rank=2).to(dtypes[1])
    said = f"is {str(dtypes[1])[6:]} now, but was {str(dtypes[0])[6:]} at scaffold"
    with pytest.raises(CheckpointError, match=said):
        packed(model, tmp_path, how)
    packed(lottapack.nn.regenerate_(model.to(dtypes[0])), tmp_path, how)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float16), (torch.float16, torch.bfloat16)])
def test_a_checkpoint_in_another_dtype_of_the_same_size_is_a_model_in_its_own(dtypes, tmp_path):
    model = train(lottapack.scaffold(mlp().to(dtypes[0]), seed=2, rank=2))
    state = cast(model.state_dict(), dtypes[1])
    lottapack.pack(state, tmp_path / S)
    loaded = lottapack.load(tmp_path / S)
    assert {t.dtype for t in [*loaded.parameters(), *loaded.buffers()] if t.is_floating_point()} == {dtypes[0]}
    again = {name: value for name, value in loaded.state_dict().items() if value.is_floating_point()}
    assert {n: bits(t) for n, t in again.items()} == {n: bits(state[n].to(dtypes[0])) for n in again}


@pytest.mark.parametrize("how", ["state", "file"])
@pytest.mark.parametrize(
    "way", [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float16, torch.bfloat16)]
)
def test_a_backbone_that_was_rounded_by_a_cast_and_back_is_refused(way, how, tmp_path):
    model = lottapack.scaffold(mlp(), seed=2, rank=2)
    for dtype in way:
        model.to(dtype)
    with pytest.raises(CheckpointError, match=r"is not what its seed gives(.|\n)*cast to a narrower dtype and back"):
        packed(model, tmp_path, how)
    packed(lottapack.nn.regenerate_(model), tmp_path, how)


@pytest.mark.parametrize("how", ["model", "state"])
def test_a_model_in_double_precision_is_refused(how, tmp_path):
    model = lottapack.scaffold(mlp(), seed=2, rank=2).double()
    with pytest.raises(CheckpointError, match=r"is float64 now, but was float32 at scaffold\(\)"):
        packed(model, tmp_path, how)


def test_a_part_that_is_cast_is_that_part(tmp_path):
    model = llama()
    model.model.layers[0].mlp.to(torch.bfloat16)
    loaded = lottapack.load(packed(model, tmp_path, "state"))
    assert loaded.model.layers[0].mlp.up_proj.backbone.dtype == torch.bfloat16
    assert loaded.model.layers[0].self_attn.q_proj.backbone.dtype == torch.float32
    before, after = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert {n: (p.dtype, bits(p)) for n, p in before.items()} == {n: (p.dtype, bits(p)) for n, p in after.items()}


def test_a_cast_checkpoint_resumes_in_a_fresh_model():
    state = llama().to(torch.bfloat16).state_dict()
    model = lottapack.scaffold(tied_llama(), seed=2, rank=2)
    model.load_state_dict(state)
    model.to(torch.bfloat16)
    assert {n: bits(t) for n, t in model.state_dict().items()} == {n: bits(t) for n, t in state.items()}


# What requires a gradient


def trains(model):
    return {name: one.requires_grad for name, one in model.named_parameters()}


@pytest.mark.parametrize("how", ["model", "state", "file"])
def test_what_was_frozen_or_unfrozen_later_is_so_again(how, tmp_path):
    model = lottapack.scaffold(mlp(), seed=2, rank=2, train=["heads"])
    before = trains(model)
    for name, parameter in model.named_parameters():
        if "lora" not in name and "beta" not in name:
            parameter.requires_grad_(not before[name])
    path = packed(model, tmp_path, how)
    assert trains(lottapack.load(path)) == trains(model) != before
    with open_pack(path) as pack:
        said = {name: entry.trained for name, entry in pack.descriptor.parameters.items() if hasattr(entry, "trained")}
    assert said == {name: on for name, on in trains(model).items() if name in said}
    assert packed(lottapack.load(path), tmp_path, name="again").read_bytes() == path.read_bytes()


def test_a_tied_embedding_that_is_unfrozen_trains_again(tmp_path):
    model = lottapack.scaffold(tied_llama(), seed=2, rank=2, train=["norms"])
    assert not model.model.embed_tokens.weight.requires_grad
    model.model.embed_tokens.weight.requires_grad_(True)
    loaded = lottapack.load(packed(model, tmp_path))
    assert trains(loaded) == trains(model)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_a_model_that_was_frozen_to_be_evaluated_trains_again(tmp_path):
    model = llama()
    expected = packed(model, tmp_path).read_bytes()
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert packed(frozen, tmp_path, name="b").read_bytes() == expected


def test_a_checkpoint_of_other_plans_to_train_resumes():
    model = lottapack.scaffold(mlp(), seed=2, rank=2)
    model[0].bias.requires_grad_(False)
    lottapack.scaffold(mlp(), seed=2, rank=2).load_state_dict(model.state_dict())
    with pytest.raises(CheckpointError, match="another plan of roles"):
        lottapack.scaffold(mlp(), seed=2, rank=3).load_state_dict(model.state_dict())


def test_batch_norms_and_whole_numbers_are_cast_as_torch_does(tmp_path):
    model = train(lottapack.scaffold(cnn(), seed=2, rank=2)).half().to(memory_format=torch.channels_last)
    loaded = lottapack.load(packed(model, tmp_path))
    assert {**all_bits(model), "lottapack_recipe": None} == {**all_bits(loaded), "lottapack_recipe": None}
    assert isinstance(loaded[0], nn.Conv2d)


def test_a_plain_model_that_was_cast_comes_back_so(tmp_path):
    """Cast rotary frequencies are not in checkpoints, whoever drew the weights."""
    torch.manual_seed(5)
    model = tied_llama().to(torch.bfloat16).eval()
    path = lottapack.pack(lottapack.recover.torch_cpu(model, architecture=model, seed=5), tmp_path / "a").path
    loaded = lottapack.load(path)
    assert outputs(loaded) == outputs(model)
    held = dict(loaded.named_buffers())
    assert {name: held[name].dtype for name, _ in model.named_buffers()} == {
        n: b.dtype for n, b in model.named_buffers()
    }
    with pytest.raises(CheckpointError, match="has other values than in a LlamaForCausalLM"):
        lottapack.pack(lottapack.recover.torch_cpu(model.float(), architecture=model, seed=5), tmp_path / "b")
    with pytest.raises(CheckpointError, match="has other values than in a LlamaForCausalLM"):
        lottapack.pack(lottapack.recover.merged(model, architecture=model, seed=5, max_rank=2), tmp_path / "b")
    assert not (tmp_path / "b").exists()
