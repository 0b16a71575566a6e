"""Limits on building a module: hostile configurations end at once, honest ones build."""

import threading

import pytest
import torch
from effort import ends
from models import gpt2, mlp, tied_llama
from torch import nn

import lottapack
from lottapack import LottapackError, arch
from lottapack.arch import numbers, skeleton, versions
from lottapack.arch.account import Account
from lottapack.arch.budget import Budget
from lottapack.arch.modes import WithoutWeights
from lottapack.arch.skeleton import computed_tensors
from lottapack.arch.transformers_models import model_class
from lottapack.arch.watched import anonymous_memory
from lottapack.errors import ArchitectureError, LimitError, UnsupportedError
from lottapack.format.descriptor import Architecture

# Stopped may arrive in a callback of the garbage collector, where Python drops it; it is sent again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


SMALL = Budget(tensors=20, nbytes=10_000, largest=64)
"""Of the table of a small model."""

GPT2 = {"model_type": "gpt2", "n_embd": 8, "n_head": 2, "n_layer": 1, "vocab_size": 16, "n_positions": 16}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 16,
    "num_hidden_layers": 1,
}
NEO = {
    "model_type": "gpt_neo",
    "hidden_size": 8,
    "num_heads": 2,
    "num_layers": 1,
    "attention_types": [[["global"], 1]],
    "vocab_size": 16,
    "max_position_embeddings": 16,
}
SWIN = {"model_type": "swin", "depths": [1], "num_heads": [1], "embed_dim": 8, "image_size": 32}
DISTILBERT = {
    "model_type": "distilbert",
    "dim": 768,
    "n_heads": 2,
    "n_layers": 1,
    "hidden_dim": 8,
    "vocab_size": 16,
    "sinusoidal_pos_embds": True,
}


@pytest.mark.parametrize(
    ("class_name", "config"),
    [
        ("GPT2ForSequenceClassification", {**GPT2, "num_labels": 3 * 10**8}),
        ("GPT2ForSequenceClassification", {**GPT2, "num_labels": 2 * 10**6}),
        ("GPT2LMHeadModel", {**GPT2, "n_layer": 10**9}),
        ("GPT2LMHeadModel", {**GPT2, "n_layer": 10**6}),
        ("GPT2LMHeadModel", {**GPT2, "n_positions": 2**40}),
        ("LlamaForCausalLM", {**LLAMA, "head_dim": 4 * 10**7}),
        ("LlamaForCausalLM", {**LLAMA, "num_hidden_layers": 2 * 10**6}),
        ("LlamaForCausalLM", {**LLAMA, "max_position_embeddings": 10**18}),
        ("GPTNeoForCausalLM", {**NEO, "max_position_embeddings": 10**6}),
        ("GPTNeoForCausalLM", {**NEO, "attention_types": [[["global"], 10**9]]}),
        ("GPTNeoForCausalLM", {**NEO, "attention_types": [[["global"], 2 * 10**6]] * 50}),
        ("SwinModel", {**SWIN, "depths": [10**9]}),
        ("SwinModel", {**SWIN, "depths": [2 * 10**6]}),
        ("SwinModel", {**SWIN, "image_size": 10**6, "window_size": 300}),
        ("SwinModel", {**SWIN, "image_size": 10**6, "window_size": 30_000}),
        ("BitModel", {"model_type": "bit", "depths": [2**20] * 900, "hidden_sizes": [8] * 900}),
        ("FNetModel", {"model_type": "fnet", "use_tpu_fourier_optimizations": True, "hidden_size": 30_000}),
        ("DistilBertModel", {**DISTILBERT, "max_position_embeddings": 3 * 10**6}),
        ("Gemma3ForConditionalGeneration", {"model_type": "gemma3", "text_config": {"num_hidden_layers": 10**9}}),
    ],
)
def test_small_packs_neither_hang_nor_fill_memory(class_name, config):
    architecture = Architecture(family="transformers", class_=class_name, config=config)
    model_class(class_name)  # the time of its import does not count
    before = anonymous_memory()
    with ends(), pytest.raises(LimitError) as caught:
        # What the caller allows for the model allows no more for this.
        arch.build(architecture, Budget(SMALL.tensors, SMALL.nbytes, SMALL.largest, max_bytes=10**15))
    assert anonymous_memory() - before < 300_000_000
    assert class_name in caught.value.message
    assert caught.value.hint


def test_a_table_that_declares_any_size_justifies_no_long_loop():
    """A few lines of a table can declare terabytes."""
    config = {"model_type": "jamba", "num_hidden_layers": 2**20, "num_attention_heads": 32, "num_key_value_heads": 8}
    architecture = Architecture(family="transformers", class_="JambaForCausalLM", config=config)
    model_class("JambaForCausalLM")
    with ends(), pytest.raises(LimitError):
        arch.build(architecture, Budget(tensors=20, nbytes=10**12, largest=2**21))


def test_max_bytes_bounds_what_is_computed():
    described = arch.describe(tied_llama())
    config = {**described.config, "head_dim": 2 * 10**6, "num_attention_heads": 1, "num_key_value_heads": 1}
    architecture = Architecture(family="transformers", class_="LlamaForCausalLM", config=config)
    arch.build(architecture, Budget(100, 10**9))
    config = {**GPT2, "model_type": "gpt_neo", **NEO, "max_position_embeddings": 5000}
    architecture = Architecture(family="transformers", class_="GPTNeoForCausalLM", config=config)
    arch.build(architecture, Budget(100, 10**6))
    with pytest.raises(LimitError, match=r"computes tensors of .* but only 16 MB are allowed") as caught:
        arch.build(architecture, Budget(100, 10**6, max_bytes=10**7))
    assert caught.value.hint == "If you trust the pack, pass a larger `max_bytes`."


def test_numbers_that_models_have():
    for config in (
        {"max_position_embeddings": 10_485_760, "rope_theta": 3_580_165_449, "vocab_size": 262_144},
        {"rope_parameters": {"full_attention": {"rope_theta": 10**9}}, "seq_length": 2**20, "chunk": 1_440_000},
        {"pad_token_id": -100, "gradient_clipping": 10**10, "mask_value": -(10**9), "seed": 2**63, "flag": True},
    ):
        numbers.check_numbers("it", config, SMALL)
    numbers.check_numbers("it", {"vocab_size": 20_000_000}, Budget(1, 8, 20_000_000))
    numbers.check_numbers("it", {"vocab_size": 20_000_000}, Budget())
    for config in ({"vocab_size": 20_000_000}, {"a": [{"layers": 3 * 10**6}]}, {"depth": -(2**40)}):
        with pytest.raises(LimitError, match=r"it: config\.[\w.\[\]]+ is -?[\d,]+, but at most [\d,]+ is accepted"):
            numbers.check_numbers("it", config, SMALL)
    with pytest.raises(LimitError):  # a table does not justify layers
        numbers.check_numbers("it", {"num_hidden_layers": 10**9}, Budget(1, 4 * 10**9, 10**9))
    assert Budget.of_shapes([((10**15, 0), 4), ((3, 2), 4)]) == Budget(2, 24, 3)


@pytest.mark.parametrize(
    "text",
    [
        "hf-hub:a/b",
        "HF_hub:a/b",
        "local-dir:/tmp",
        "lo\tcal_dir:x",
        "https://example.org/a",
        "a/b.safetensors",
        "model.PTH ",
        "x.bin",
    ],
)
def test_texts_that_name_what_could_be_loaded(text):
    with pytest.raises(ArchitectureError, match="names something to load"):
        numbers.check_texts("it", {"a": [{"backbone": text}]})
    numbers.check_texts("it", {"a": ["resnet18", "gelu", "microsoft/resnet-50", "a: b", "5.23.0"], "b": 1})


def test_versions_with_known_holes_are_refused(monkeypatch):
    described = arch.describe(gpt2())
    monkeypatch.setattr(versions, "installed", {"transformers": "5.4.9", "timm": "1.0.30.dev1"}.get)
    with pytest.raises(UnsupportedError, match=r"transformers 5\.4\.9 is too old") as caught:
        arch.build(described)
    assert caught.value.hint == "Install a newer one: pip install 'transformers>=5.5'"
    with pytest.raises(UnsupportedError, match=r"timm 1\.0\.30\.dev1 is too old"):
        versions.require_sound("timm")
    monkeypatch.setattr(
        versions, "installed", {"transformers": "5.10.dev0", "timm": "1.0.31", "torch": "2.10.0+cpu"}.get
    )
    for package in ("timm", "transformers", "torch"):
        versions.require_sound(package)
    assert versions.mentions({"backbone_config": {"model_type": "timm_backbone"}}, "timm")
    assert versions.mentions({"a": [{"use_timm_backbone": True}]}, "timm")
    assert not versions.mentions({"use_timm_backbone": False, "b": ["resnet"]}, "timm")


def construct(do):
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("made", do(), persistent=False)

    return Made


@pytest.mark.parametrize(
    "do",
    [
        lambda: torch.zeros(10**5, 10**5),
        lambda: torch.arange(10**10),
        lambda: torch.ones(40_000, 1) * torch.ones(1, 40_000),
        lambda: torch.ones(3, 4, device="cpu").repeat(10**5, 10**5),
        lambda: torch.tensor(sum(1 for _ in torch.arange(10**8, device="cpu"))),
        lambda: torch.tensor([float(x) for x in torch.linspace(0, 1, 4 * 10**7, device="cpu").tolist()]),
        lambda: torch.stack(torch.zeros(10**9).unbind()),
        lambda: torch.eye(10**5).tril(),
        lambda: torch.cartesian_prod(torch.arange(10**5), torch.arange(10**5)),
        lambda: torch.nn.functional.one_hot(torch.arange(10**5), 10**5),
        lambda: torch.stack([torch.ones(10**7) for _ in range(1000)]),
    ],
)
def test_tensors_are_refused_before_there_is_memory_for_them(do):
    before = anonymous_memory()
    with pytest.raises(LimitError, match=r"computes tensors|needs more memory"):
        skeleton.build_skeleton(construct(do), "it", SMALL)
    assert anonymous_memory() - before < 300_000_000


def test_memory_that_was_given_back_does_not_count():
    def do():
        for _ in range(40):
            torch.ones(10**7, device="cpu")
        return torch.ones(3)

    assert skeleton.build_skeleton(construct(do), "it", SMALL).made.tolist() == [1, 1, 1]
    account = Account("it", SMALL)
    held = torch.ones(10**7)
    account.note([held, held[1:], {"a": held}])
    assert account._total == 4 * 10**7
    del held
    account._forget()
    assert account._total == 0


def test_modules_are_built_alike_whatever_the_defaults_of_the_process_are(tmp_path):
    models = {
        "llama": tied_llama(),
        "neo": arch.build(Architecture(family="transformers", class_="GPTNeoModel", config=NEO)),
    }

    class Floats(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.arange(6)
            self.made = [
                torch.linspace(0, 1, 5),
                torch.tensor([0.1, 0.2]),
                torch.full((2,), 0.1),
                whole / 3,
                whole * 0.1,
                whole.sqrt(),
                10_000.0 ** (whole / 6),
                torch.zeros(2),
                torch.arange(0, 1, 0.1),
                torch.sin(whole),
                whole.double() / 3,
                torch.tensor([1, 2]),
            ]
            for number, tensor in enumerate(self.made):
                self.register_buffer(f"t{number}", tensor, persistent=False)

    def all_of() -> list[torch.Tensor]:
        found = [tensor for _, tensor in computed_tensors(skeleton.build_skeleton(Floats, "it", SMALL))]
        for model in models.values():
            found += [tensor for _, tensor in computed_tensors(arch.build(arch.describe(model)))]
        return found

    expected = all_of()
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            again = all_of()
        finally:
            torch.set_default_dtype(torch.float32)
        assert [tensor.dtype for tensor in again] == [tensor.dtype for tensor in expected]
        assert all(torch.equal(one, other) for one, other in zip(again, expected, strict=True))
    torch.set_default_device("meta")
    try:
        again = all_of()
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(one, other) for one, other in zip(again, expected, strict=True))
    with torch.inference_mode(), torch.device("meta"):
        assert all(torch.equal(one, other) for one, other in zip(all_of(), expected, strict=True))


def test_other_threads_see_nothing(tmp_path):
    """Loading, verifying and drawing do not change patches, defaults or random numbers."""
    llama, plain = tied_llama(), mlp()
    paths = [
        lottapack.pack(lottapack.scaffold(model, seed=1, rank=2), tmp_path / f"{number}.lotta.safetensors").path
        for number, model in enumerate((llama, plain))
    ]
    described = [arch.describe(tied_llama()), arch.describe(mlp())]
    stop, faults = threading.Event(), []

    def work() -> None:
        try:
            while not stop.is_set():
                for path in paths:
                    lottapack.load(path)
                    lottapack.verify(path)
                for architecture in described:
                    arch.build(architecture)
                arch.draw(described[1], 7)
        except BaseException as fault:  # noqa: BLE001
            faults.append(fault)

    def state() -> tuple[object, ...]:
        from torch.nn.modules import module

        hooks = [value for name, value in vars(module).items() if name.startswith("_global")]
        initialisers = [nn.init.normal_, nn.init.kaiming_uniform_, nn.Module.__init__, type(llama).init_weights]
        return torch.get_default_dtype(), torch.get_default_device(), *initialisers, *map(str, hooks)

    before, numbers_before = state(), torch.get_rng_state()
    thread = threading.Thread(target=work)
    thread.start()
    seen = set()
    for _ in range(2000):
        seen.add(state() == before)
        layer = torch.empty(64, 64)
        nn.init.normal_(layer, generator=torch.Generator().manual_seed(1))
        seen.add(bool(0.9 < layer.std() < 1.1))
        seen.add(not nn.Linear(2, 2, bias=False, device="cpu").weight.is_meta)
        torch.set_rng_state(numbers_before)
    stop.set()
    thread.join()
    assert faults == []
    assert seen == {True}
    assert torch.equal(torch.get_rng_state(), numbers_before)


def test_nothing_is_drawn_from_the_process(tmp_path):
    described, other = arch.describe(mlp()), arch.describe(gpt2())
    state = torch.get_rng_state()
    drawn = arch.draw(described, 7).state_dict()
    arch.draw(other, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in mlp().state_dict().items())


def test_one_error_is_enough_for_an_empty_device_question():
    """transformers asks for the device with an empty tensor, and walks all modules unless it is meta."""
    with WithoutWeights(Account("it", SMALL), computed=True):
        assert torch.tensor([]).is_meta
        assert not torch.tensor([1.0]).is_meta
        assert not torch.zeros(2).is_meta
        assert torch.empty(2).is_meta


def test_every_error_is_typed():
    for config in ({**GPT2, "n_embd": -8}, {**GPT2, "n_head": 0}, {**GPT2, "n_layer": "a"}, {**GPT2, "n_embd": []}):
        with pytest.raises(LottapackError):
            arch.build(Architecture(family="transformers", class_="GPT2LMHeadModel", config=config), SMALL)


def counted(construct):
    """A constructor that counts its calls."""
    calls = []

    def again():
        calls.append(None)
        return construct()

    return again, calls


class Steps(nn.Module):
    """A weight of ones, and steps that only the constructor can compute."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))
        self.register_buffer("steps", torch.arange(float(count)).sin(), persistent=False)


def test_small_models_are_built_at_once():
    for make in (Steps, lambda: nn.LayerNorm(4)):
        construct, calls = counted(make)
        once = skeleton.build_skeleton(construct, "it", SMALL, at_once=True)
        assert len(calls) == 1
        twice = skeleton.build_skeleton(construct, "it", SMALL)
        assert {name: (tensor.is_meta, tensor.shape) for name, tensor in once.state_dict().items()} == {
            name: (tensor.is_meta, tensor.shape) for name, tensor in twice.state_dict().items()
        }
        assert all(tensor.is_meta for tensor in once.parameters())
        pairs = zip(computed_tensors(once), computed_tensors(twice), strict=True)
        assert all(first[0] == second[0] and torch.equal(first[1], second[1]) for first, second in pairs)


def test_large_ones_are_built_on_meta_first():
    count = skeleton._AT_ONCE // 4 + 1
    construct, calls = counted(lambda: Steps(count))
    model = skeleton.build_skeleton(construct, "it", Budget(tensors=2, nbytes=4 * count, largest=count), at_once=True)
    assert len(calls) == 3
    assert torch.equal(model.steps, torch.arange(float(count)).sin())
    assert model.weight.is_meta


def test_a_library_that_goes_on_without_its_memory_is_built_again():
    def construct():
        module = nn.Module()
        try:
            made = torch.arange(skeleton._AT_ONCE)
        except LimitError:
            made = torch.arange(3)
        module.register_buffer("made", made, persistent=False)
        return module

    model = skeleton.build_skeleton(construct, "it", SMALL, at_once=True)
    assert model.made.shape == (skeleton._AT_ONCE,)


def test_transformers_models_are_built_at_once(monkeypatch):
    built = []
    original = skeleton._built_at_once
    monkeypatch.setattr(skeleton, "_built_at_once", lambda *given: built.append(original(*given)) or built[-1])
    for name, config in (("GPT2LMHeadModel", GPT2), ("LlamaForCausalLM", LLAMA), ("GPTNeoModel", NEO)):
        model = arch.build(Architecture(family="transformers", class_=name, config=config))
        assert model is built[-1]
