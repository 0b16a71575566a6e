"""fill_(): every tensor is filled and tied as in load(), or an error names it."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from models import all_bits, bits, cnn, gpt2, mlp, output, text, tied_llama, train
from torch import nn
from torch.utils.checkpoint import checkpoint

import lottapack
from lottapack.errors import ArchitectureError, ScaffoldError

BUILD = {"mlp": mlp, "cnn": cnn, "text": text, "llama": tied_llama, "gpt2": gpt2}
CASES = {name: (name, {}) for name in BUILD} | {
    "llama, its head adapted": ("llama", {"targets": ["embed_tokens", "*_proj"]}),
    "llama, its head frozen": ("llama", {"train": ["norms"]}),
}


@pytest.fixture(autouse=True)
def no_memory_by_chance():
    """Fill uninitialised memory with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def packed(name, path, **options):
    if name in ("llama", "gpt2"):
        pytest.importorskip("transformers")
    model = train(lottapack.scaffold(BUILD[name](), **{"seed": 5, "rank": 2, **options}))
    lottapack.pack(model, path)
    return path


def identities(model):
    """Return the groups of names that share one tensor."""
    found = {}
    for name, tensor in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        found.setdefault(id(tensor), set()).add(name)
    return sorted(map(sorted, found.values()))


def same(filled, loaded):
    values = [
        dict([*m.named_parameters(remove_duplicate=False), *m.named_buffers(remove_duplicate=False)])
        for m in (filled, loaded)
    ]
    assert values[0].keys() == values[1].keys()
    for name, tensor in values[0].items():
        assert bits(tensor) == bits(values[1][name]), name
    assert identities(filled) == identities(loaded)
    assert filled.training == loaded.training


@pytest.mark.parametrize("case", CASES)
def test_a_filled_model_is_the_loaded_one(case, tmp_path):
    name, options = CASES[case]
    pack = packed(name, tmp_path / "p", **options)
    for merge, backbone in ((False, "buffer"), (False, "parameter"), (True, "buffer")):
        model = lottapack.distributed.fill_(lottapack.distributed.load_meta(pack, merge=merge, backbone=backbone), pack)
        same(model, lottapack.load(pack, merge=merge))
    own = lottapack.distributed.load_meta(pack, merge=True).to(torch.bfloat16)  # a plain model, of another dtype
    same(lottapack.distributed.fill_(own, pack), lottapack.load(pack, merge=True, dtype=torch.bfloat16))


def test_ones_own_tied_model_and_one_that_is_not_tied_yet(tmp_path):
    pack = packed("llama", tmp_path / "p")
    whole = lottapack.load(pack, merge=True)
    for tied in (True, False):
        config = copy.deepcopy(whole.config)
        config.tie_word_embeddings = tied
        with torch.device("meta"):
            model = type(whole)(config).eval()
        same(lottapack.distributed.fill_(model, pack), whole)


def test_a_model_that_ties_what_the_pack_does_not_is_refused(tmp_path):
    lottapack.pack(lottapack.scaffold(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), seed=1, rank=2), tmp_path / "p")
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    with pytest.raises(
        ArchitectureError, match=r"the model ties 1\.weight to 0\.weight, but the pack holds a tensor f"
    ):
        lottapack.distributed.fill_(model, tmp_path / "p")
    assert model[0].weight.is_meta


def test_what_the_pack_cannot_fill_is_named_before_anything_gets_memory(tmp_path):
    pack = packed("mlp", tmp_path / "p")
    for kind, name in (("parameter", "2.extra"), ("buffer", "2.extra"), ("module", "2.inner.weight")):
        model = lottapack.distributed.load_meta(pack, merge=True)
        if kind == "parameter":
            model[2].extra = nn.Parameter(torch.empty(3, device="meta"))
        elif kind == "buffer":
            model[2].register_buffer("extra", torch.empty(3, device="meta"), persistent=False)
        else:
            model[2].inner = nn.Linear(2, 2, device="meta")
        with pytest.raises(ArchitectureError, match=rf"{name} is on the meta device, but the pack does not hold it"):
            lottapack.distributed.fill_(model, pack)
        assert model[0].weight.is_meta


def test_what_has_values_keeps_them(tmp_path):
    """A new head beside a model on the meta device."""
    pack = packed("mlp", tmp_path / "p")
    model = lottapack.distributed.load_meta(pack, merge=True)
    model[2].head = nn.Linear(8, 2)
    held, due = model[2].head.weight, bits(model[2].head.weight)
    lottapack.distributed.fill_(model, pack)
    assert model[2].head.weight is held
    assert bits(held) == due
    assert bits(model[0].weight) == bits(lottapack.load(pack, merge=True)[0].weight)


def test_a_number_of_another_kind_is_refused(tmp_path):
    pack = packed("cnn", tmp_path / "p")
    model = lottapack.distributed.load_meta(pack, merge=True)
    model[1].num_batches_tracked = torch.empty((), dtype=torch.float32, device="meta")
    with pytest.raises(
        ArchitectureError, match=r"num_batches_tracked in torch.int64, but the model has it in torch.fl"
    ):
        lottapack.distributed.fill_(model, pack)


def test_the_mode_is_that_of_the_model(tmp_path):
    pack = packed("mlp", tmp_path / "p")
    assert not lottapack.distributed.fill_(lottapack.distributed.load_meta(pack), pack).training
    assert lottapack.distributed.fill_(lottapack.distributed.load_meta(pack).train(), pack).training


SEEDS = {"b": 8, "c": 9}


def test_a_filled_model_is_on_the_scaffold_it_was_filled_with(tmp_path):
    pack = packed("mlp", tmp_path / "p", scaffolds=SEEDS)
    due = {name: all_bits(lottapack.load(pack, scaffold=name)) for name in ("default", *SEEDS)}
    for made in due:
        for backbone in ("buffer", "parameter"):
            for asked in (None, *due):
                model = lottapack.distributed.load_meta(pack, scaffold=made, backbone=backbone)
                lottapack.distributed.fill_(model, pack, scaffold=asked)
                assert lottapack.nn.active_scaffold(model) == (asked or made)
                assert all_bits(model) == due[asked or made]
                for name in due:
                    lottapack.switch(model, name)
                    assert lottapack.nn.active_scaffold(model) == name
                    assert all_bits(model) == due[name]
                    lottapack.distributed.fill_(model, pack)
                    assert all_bits(model) == due[name]


def unwritable(model, fault):
    weight = model[2].backbone
    if fault == "shared":
        model[2]._buffers["backbone"] = weight[:1].expand(8, 12)
    elif fault == "freed":
        model[2]._buffers["backbone"] = weight.clone()
        model[2].backbone.untyped_storage().resize_(0)
    else:
        model[2].to("meta")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("shared", "cannot write 2.weight"),
        ("freed", "does not have its memory"),
        ("meta", "2.weight is on the meta device"),
    ],
)
def test_a_switch_that_is_refused_changes_nothing(fault, said, tmp_path):
    model = lottapack.load(packed("mlp", tmp_path / "p", scaffolds=SEEDS))
    due = bits(model[0].backbone)
    unwritable(model, fault)
    with pytest.raises(lottapack.LottapackError, match=said):
        lottapack.switch(model, "b")
    assert bits(model[0].backbone) == due
    assert lottapack.nn.active_scaffold(model) == "default"


def test_a_switch_that_fails_half_way_goes_back(tmp_path, monkeypatch):
    model = lottapack.load(packed("mlp", tmp_path / "p", scaffolds=SEEDS))
    due, fill, calls = all_bits(model), lottapack.rng.fill_, []

    def failing(tensor, source, start=0):
        calls.append(source.name)
        if len(calls) == 2:
            raise MemoryError
        return fill(tensor, source, start)

    monkeypatch.setattr("lottapack.nn.generating.rng.fill_", failing)
    with pytest.raises(MemoryError):
        lottapack.switch(model, "b")
    assert len(calls) > 2
    assert all_bits(model) == due
    assert lottapack.nn.active_scaffold(model) == "default"


CHECKPOINTS = {
    "reentrant": lambda m, x: checkpoint(m, x, use_reentrant=True),
    "not reentrant": lambda m, x: checkpoint(m, x, use_reentrant=False),
    "nested": lambda m, x: checkpoint(lambda x: checkpoint(m, x, use_reentrant=False), x, use_reentrant=False),
    "layer by layer": lambda m, x: m[4](
        m[3](checkpoint(m[2], m[1](checkpoint(m[0], x, use_reentrant=False)), use_reentrant=True))
    ),
}


@pytest.mark.parametrize("backbone", ["materialised", "blocks"])
@pytest.mark.parametrize("way", CHECKPOINTS)
def test_a_recomputation_has_the_backbone_of_its_forward_pass_or_is_an_error(way, backbone, tmp_path):
    pack, run = packed("mlp", tmp_path / "p", scaffolds=SEEDS), CHECKPOINTS[way]
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))

    def gradient(model, run, *switches):
        given = x.clone().requires_grad_()
        loss = run(model, given).sin().sum()
        for name in switches:
            lottapack.switch(model, name)
        loss.backward()
        return given.grad

    model = lottapack.load(pack, backbone=backbone)
    for _ in range(2):  # before and after the first switch of all
        due = gradient(lottapack.load(pack, scaffold="b"), lambda m, x: m(x))
        for switches in (("b",), ("b", "c")):
            lottapack.switch(model, "default")
            with pytest.raises(ScaffoldError, match="gradient checkpointing runs the forward pass again"):
                gradient(model, run, *switches)
        lottapack.switch(model, "b")
        assert torch.allclose(gradient(model, run), due, rtol=1e-5, atol=1e-6)
        assert torch.allclose(gradient(model, run, "c", "b"), due, rtol=1e-5, atol=1e-6)
    losses = []
    for name in ("default", "b"):  # each loss is checkpointed on its own scaffold; backward follows both
        with lottapack.switch(model, name):
            losses.append(run(model, x.clone().requires_grad_()).sum())
    with pytest.raises(RuntimeError, match="switched to another scaffold"):
        sum(losses).backward()


def in_a_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.parametrize("backbone", ["materialised", "blocks"])
@pytest.mark.parametrize("way", CHECKPOINTS)
def test_threads_that_switch_and_run_a_model_are_told_apart(way, backbone, tmp_path):
    pack, run = packed("mlp", tmp_path / "p", scaffolds=SEEDS), CHECKPOINTS[way]
    model = lottapack.load(pack, backbone=backbone)
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    here, other = (lambda work: work()), in_a_thread

    def loss():
        return run(model, x.clone().requires_grad_()).sum()

    for forward, switching in ((here, other), (other, here), (other, other)):
        for _ in range(2):
            made = forward(loss)
            switching(lambda: lottapack.switch(model, "b"))
            with pytest.raises(ScaffoldError, match="gradient checkpointing runs the forward pass again"):
                made.backward()
            switching(lambda: lottapack.switch(model, "default"))
    for _ in range(2000):  # so this thread's counters exceed those of new threads
        x.clone().requires_grad_().view(-1)
    early = in_a_thread(loss)
    lottapack.switch(model, "b")
    loss()
    with pytest.raises(ScaffoldError, match="several threads"):
        early.backward()


def test_a_forward_pass_in_a_thread_of_its_own_is_recomputed(tmp_path):
    model = lottapack.load(packed("mlp", tmp_path / "p", scaffolds=SEEDS))
    x = torch.ones(1, 16)
    gradients = []
    for work in (in_a_thread, lambda work: work()):
        given = x.clone().requires_grad_()
        work(lambda given=given: checkpoint(model, given, use_reentrant=False).sum()).backward()
        gradients.append(given.grad)
    assert torch.equal(*gradients)


def test_a_fill_between_forward_and_recomputation_is_noticed(tmp_path):
    pack = packed("mlp", tmp_path / "p", scaffolds=SEEDS)
    model = lottapack.load(pack)
    loss = checkpoint(model, torch.ones(1, 16, requires_grad=True), use_reentrant=False).sum()
    lottapack.distributed.fill_(model, pack, scaffold="b")
    with pytest.raises(ScaffoldError, match="gradient checkpointing"):
        loss.backward()
    assert output(model, torch.ones(1, 16)) is not None
