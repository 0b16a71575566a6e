"""The table of ways to load, by models, by dtypes; and resuming over them."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from extent import extent
from sharing import case, compare, line, named, no_communication, refused, same
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import lottapack
from lottapack import distributed, errors

MODELS = ("mlp", "mlp frozen", "mlp bfloat16", "mlp float16 stored", "mlp vera", "cnn", "text")
MODELS += ("llama", "llama adapted", "llama moe", "gpt2")
"""Packs that test_sharded.py makes."""


def input_of(model: nn.Module, name: str) -> Tensor:
    """An input in the model's dtype."""
    if name.startswith(("text", "llama", "gpt2")):
        return torch.arange(5)[None]
    dtype = next(p.dtype for p in model.parameters())
    shape = (2, 3, 6, 6) if name.startswith("cnn") else (3, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def whole_output(model: nn.Module, given: Tensor) -> Tensor:
    """Return a model's output, gathered."""
    found = model(given)
    found = getattr(found, "logits", found)
    return found.full_tensor() if isinstance(found, DTensor) else found


def filled(pack: Path, shard: Callable[[nn.Module], object] = lambda _: None, **options: object) -> nn.Module:
    """load_meta(), sharded, and fill_()."""
    with no_communication():
        model = distributed.load_meta(pack, **options)
    shard(model)
    with no_communication():
        return distributed.fill_(model, pack)


def sharded(model: nn.Module, **policy: object) -> nn.Module:
    """By FSDP2, layer by layer."""
    blocks = ("LlamaDecoderLayer", "MixtralDecoderLayer", "GPT2Block")
    inner = ("AdaptedLinear",) if isinstance(model, nn.Sequential) else blocks
    for module in model.modules():
        if type(module).__name__ in inner:
            fully_shard(module, **policy)
    return fully_shard(model, **policy)


def ways(pack: Path, merge: bool) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Return every way to load. Each gives the model of load()."""
    kinds = ("buffer",) if merge else ("buffer", "parameter")
    for kind in kinds:
        yield f"fill_, {kind}", lambda kind=kind: filled(pack, merge=merge, backbone=kind)
        yield f"FSDP2, {kind}", lambda kind=kind: filled(pack, sharded, merge=merge, backbone=kind)
    yield "FSDP2 of load()", lambda: sharded(lottapack.load(pack, merge=merge))
    for placements in (Replicate(), Shard(0)):
        yield (
            f"mesh, {placements}",
            lambda p=placements: distributed.load(pack, mesh=line(), placements=p, merge=merge),
        )
    if not merge:
        yield "blocks", lambda: lottapack.load(pack, backbone="blocks")
        yield "FSDP2, blocks", lambda: sharded(lottapack.load(pack, backbone="blocks"))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the gathered state_dict."""
    state = model.state_dict()
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in state.items()}


@case(2)
def every_way_gives_one_model(packs: Path, rank: int) -> None:
    """Compare tensors, state_dicts and outputs bit for bit (outputs of blocks within rounding), and the mode.

    Every second way for a model, the others for the next: a way treats each tensor alike, whatever model it is of.
    """
    step = extent(2, 1)
    for number, name in enumerate(MODELS):
        for merge in (False, True):
            whole = lottapack.load(packs / name, merge=merge)
            given, due = input_of(whole, name), whole_output(whole, input_of(whole, name)).detach()
            for way, make in list(ways(packs / name, merge))[number % step :: step]:
                model, place = make(), (name, way, merge)
                assert not any(module.training for module in model.modules()), place
                state, expected = state_of(model), whole.state_dict()
                generated = {
                    f"{n}.{leaf}"
                    for n, _ in model.named_modules(remove_duplicate=False)
                    for leaf in ("weight", "backbone")
                } | {key for key in state if key.endswith("_backbone")}
                assert state.keys() - generated == expected.keys() - generated, place
                for key in state.keys() & expected.keys():
                    assert state[key].dtype == expected[key].dtype, (place, key)
                    assert same(state[key], expected[key]), (place, key)
                if way.startswith("mesh"):
                    compare(model, whole)
                    continue  # its inputs would be distributed tensors
                found = whole_output(model, given)
                assert found.dtype == due.dtype, place
                if "blocks" in way:
                    wide = torch.finfo(due.dtype).eps * 16
                    assert torch.allclose(found, due, rtol=wide, atol=wide * float(due.abs().max())), place
                else:
                    assert torch.equal(found, due), place


@case(2)
def tensor_parallelism_gives_one_model(packs: Path, rank: int) -> None:
    """Tied weights, trained or frozen, sharded alike by one plan. Outputs differ by the order of sums."""
    mlp = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    head = {
        "model.embed_tokens": RowwiseParallel(input_layouts=Replicate()),
        "lm_head": ColwiseParallel(output_layouts=Replicate()),
    }
    for name, plan in (("mlp", mlp), ("mlp frozen", mlp), ("llama", head), ("llama frozen", head)):
        for merge, kind in ((True, "buffer"), (False, "parameter")):
            model = filled(
                packs / name, lambda m, plan=plan: parallelize_module(m, line(), plan), merge=merge, backbone=kind
            )
            whole = lottapack.load(packs / name, merge=merge)
            compare(model, whole)
            found, due = (whole_output(m, input_of(whole, name)) for m in (model, whole))
            assert torch.allclose(found, due, rtol=1e-5, atol=1e-5), (name, merge)
            if name == "llama":
                assert model.lm_head.weight is model.model.embed_tokens.weight


@case(2)
def plans_for_adapted_embeddings_run_or_are_refused(packs: Path, rank: int) -> None:
    whole = lottapack.load(packs / "embedding")
    name, layer = "0", whole[0]
    assert layer.lora_B.any()
    ids = torch.tensor([[0, 1, layer.num_embeddings - 1]])
    rows, columns = RowwiseParallel(input_layouts=Replicate()), ColwiseParallel(output_layouts=Replicate())
    for style, merge in ((rows, False), (rows, True), (columns, True)):
        options = {"merge": merge, "backbone": "buffer" if merge else "parameter"}
        model = filled(packs / "embedding", lambda m, s=style: parallelize_module(m, line(), {name: s}), **options)
        found = model.get_submodule(name)(ids)
        assert torch.allclose(whole_tensor(found), layer(ids), rtol=1e-5, atol=1e-6), (style, merge)
    model = lottapack.distributed.load_meta(packs / "embedding", backbone="parameter")
    refused(
        lottapack.errors.PlacementError,
        f"ColwiseParallel cannot shard AdaptedEmbedding({layer.num_embeddings}, ",
        lambda: parallelize_module(model, line(), {name: columns}),
    )
    assert not any(isinstance(tensor, DTensor) for tensor in model.parameters())
    for layer in model.modules():  # the message names what the layer has
        if isinstance(layer, nn.Embedding):
            layer.register_parameter("beta", None)
    refused(
        errors.PlacementError,
        "): lora_B would be split by rank",
        lambda: parallelize_module(model, line(), {name: columns}),
    )


@case(2)
def other_plans_do_with_adapted_layers_what_they_do_with_stock_layers(packs: Path, rank: int) -> None:
    whole = lottapack.load(packs / "mlp")
    x = torch.randn(2, 6, whole[0].in_features, generator=torch.Generator().manual_seed(0))
    due = whole[0](x)
    for kind in ("buffer", "parameter"):
        styles = {
            "sequence": SequenceParallel(use_local_output=True),
            "input": PrepareModuleInput(
                input_layouts=(Replicate(),), desired_input_layouts=(Replicate(),), use_local_output=True
            ),
            "output": PrepareModuleOutput(output_layouts=(Replicate(),), desired_output_layouts=(Replicate(),)),
        }
        for name, style in styles.items():
            model = filled(packs / "mlp", lambda m, s=style: parallelize_module(m, line(), {"0": s}), backbone=kind)
            own = (lambda t: t.chunk(2, 1)[rank]) if name == "sequence" else (lambda t: t)
            found = whole_tensor(model[0](own(x)))
            assert torch.allclose(found, own(due), rtol=1e-5, atol=1e-6), (kind, name)
    rows = {"0": RowwiseParallel(input_layouts=Replicate())}
    model = lottapack.distributed.load_meta(packs / "mlp")
    refused(errors.PlacementError, "its backbone is not a parameter", lambda: parallelize_module(model, line(), rows))
    frozen = lottapack.distributed.load_meta(packs / "mlp frozen")
    rows = {"2": RowwiseParallel(input_layouts=Replicate())}
    refused(errors.PlacementError, "its backbone is not a parameter", lambda: parallelize_module(frozen, line(), rows))


@case(2)
def a_plan_trains_what_one_process_trains(packs: Path, rank: int) -> None:
    """Forward, backward and optimizer; beta stays whole. Sums differ in order."""
    rows, columns = RowwiseParallel(input_layouts=Replicate()), ColwiseParallel(output_layouts=Replicate())
    plans = [(name, {"0": ColwiseParallel(), "2": RowwiseParallel()}) for name in ("mlp", "mlp vera", "mlp diagonal")]
    plans += [("mlp", {"0": columns, "2": columns}), ("embedding", {"0": rows}), ("embedding diagonal", {"0": rows})]
    for name, plan in plans:
        model = filled(packs / name, lambda m, p=plan: parallelize_module(m, line(), p), backbone="parameter")
        whole = lottapack.load(packs / name)
        given = torch.tensor([[0, 1, 9], [1, 7, 9]]) if name.startswith("embedding") else input_of(whole, name)
        for one in (model, whole):
            optimizer = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], lr=0.1)
            for _ in range(2):
                one(given).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        due, start = dict(whole.named_parameters()), dict(lottapack.load(packs / name).named_parameters())
        for key, tensor in model.named_parameters():
            if not tensor.requires_grad:
                continue
            assert torch.allclose(whole_tensor(tensor), due[key], rtol=1e-4, atol=1e-5), (name, key)
            assert not torch.equal(due[key], start[key]), (name, key)
            assert not (key.endswith("beta") and isinstance(tensor, DTensor) and tensor.placements[0].is_shard()), key


@case(2)
def a_training_on_different_scaffolds_is_refused_in_every_process(packs: Path, rank: int) -> None:
    def scaffolded(seed: int, **options: object) -> nn.Module:
        plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
        return lottapack.scaffold(plain, seed=seed, rank=2, scaffolds={"b": 9}, **options)

    given = torch.ones(2, 6)
    for wrap in (DistributedDataParallel, fully_shard, lambda m: DistributedDataParallel(nn.Sequential(m))):
        for seeds, options, said in (([3, 4], {}, "seeds [3, 4]"), ([3, 3], {"alpha": rank + 1.0}, "other roles")):
            model = wrap(scaffolded(seeds[rank], **options))
            refused(errors.ScaffoldError, said, lambda m=model: m(given))
        model = wrap(lottapack.switch(scaffolded(5), "b" if rank else "default")._model)
        for _ in range(2):
            model(given).sum().backward()
    evaluated = DistributedDataParallel(scaffolded(rank))
    if rank == 0:  # one process alone: an exchange would wait for the other
        with torch.no_grad():
            evaluated(given)
        evaluated.eval()(given)
    lone = scaffolded(rank)  # each process trains its own model
    lone(given).sum().backward()


def whole_tensor(output: Tensor) -> Tensor:
    return output.full_tensor() if isinstance(output, DTensor) else output


@case(2)
def tied_weights_that_would_be_trained_apart_are_refused(packs: Path, rank: int) -> None:
    def apart(model: nn.Module) -> None:
        parallelize_module(
            model,
            line(),
            {"model.embed_tokens": RowwiseParallel(), "lm_head": RowwiseParallel(input_layouts=Replicate())},
        )

    refused(
        errors.PlacementError,
        "lm_head.weight is tied to model.embed_tokens.weight in the pack",
        lambda: filled(packs / "llama", apart),
    )
    model = filled(packs / "llama", lambda m: apart(m.requires_grad_(False)))
    compare(model, lottapack.load(packs / "llama"))


@case(2)
def mixed_precision_of_fsdp2_takes_every_backbone(packs: Path, rank: int) -> None:
    policy = {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16)}
    for name in (
        "mlp",
        "llama",
        "llama adapted",
        "gpt2",
    ):  # a batch norm does not support such a policy, with or without lottapack
        whole = lottapack.load(packs / name)
        due = whole_output(whole, input_of(whole, name)).detach()
        for make in (
            lambda p: filled(p, lambda m: sharded(m, **policy)),
            lambda p: filled(p, lambda m: sharded(m, **policy), backbone="parameter"),
            lambda p: sharded(lottapack.load(p), **policy),
            lambda p: sharded(lottapack.load(p, backbone="blocks"), **policy),
        ):
            model = make(packs / name)
            found = whole_output(model, input_of(whole, name))
            assert found.dtype == torch.bfloat16, name
            assert torch.allclose(found.float(), due, rtol=0.1, atol=0.1 * float(due.abs().max())), name
            found.float().square().sum().backward()


@case(2)
def a_distributed_checkpoint_is_taken_up(packs: Path, rank: int) -> None:
    """Saved and loaded by torch, with one scaffold and with two; the number of tensors matches."""
    shared = [tempfile.mkdtemp() if rank == 0 else ""]
    dist.broadcast_object_list(shared)
    for number, (name, kind) in enumerate(
        (name, kind) for name in ("mlp", "llama", "scaffolds") for kind in ("buffer", "parameter")
    ):
        model = filled(packs / name, sharded, backbone=kind)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(1)
        due = {key: value.clone() for key, value in state_of(model).items()}
        folder = Path(shared[0]) / str(number)
        dcp.save({"model": get_model_state_dict(model)}, checkpoint_id=folder)
        other = filled(packs / name, sharded, backbone=kind)
        state = {"model": get_model_state_dict(other)}
        dcp.load(state, checkpoint_id=folder)
        set_model_state_dict(other, state["model"])
        found = state_of(other)
        assert found.keys() == due.keys()
        assert all(same(found[key], due[key]) for key in due), (name, kind)
        full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if rank == 0:  # and by one process alone
            alone = lottapack.load(packs / name)
            alone.load_state_dict(full)
            held = named(alone)
            assert all(same(held[key], due[key]) for key in held.keys() & due.keys()), (name, kind)
        dist.barrier()


@case(2)
def a_switch_of_distributed_weights_is_refused_before_anything_changes(packs: Path, rank: int) -> None:
    pack = packs / "scaffolds"
    model = distributed.load_meta(pack, backbone="parameter")
    fully_shard(model[2])
    distributed.fill_(model, pack)
    compare(model, lottapack.load(pack))
    refused(errors.PlacementError, "fill_(model, PACK, scaffold=NAME)", lambda: lottapack.switch(model, "b"))
    assert lottapack.nn.active_scaffold(model) == "default"
    compare(model, lottapack.load(pack))
    distributed.fill_(model, pack, scaffold="b")
    assert lottapack.nn.active_scaffold(model) == "b"
    compare(model, lottapack.load(pack, scaffold="b"))
