"""The processes of a sharded test: ``python shard_cases.py FOLDER WORLD PACKS``; each writes ``FOLDER/RANK.json``.

On Linux they are forks of one that has imported everything. Each case loads or fills under a mode that refuses every
collective, and compares its shards with those of the tensor of one process. Then torch gathers them, and the whole is
compared.
"""

import json
import multiprocessing
import re
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import way_cases  # noqa: F401 - registers its cases
from sharing import CASES, WORLD, case, compare, last, line, loaded, named, no_communication, refused
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import Partial, _StridedShard

import lottapack
from lottapack import distributed, errors


@case(2, 4)
def rows_and_columns_of_each_architecture(packs: Path, rank: int) -> None:
    for name in ("mlp", "cnn", "text", "llama", "gpt2"):
        for merge in (False, True):
            for placements in (Shard(0), last):
                loaded(packs / name, line(), placements, merge=merge)


@case(2)
def recurrent_layers_with_adapters(packs: Path, rank: int) -> None:
    for placements in (Shard(0), last):
        loaded(packs / "lstm", line(), placements, allow="torch")


@case(2)
def placements_by_pattern_and_dtype(packs: Path, rank: int) -> None:
    chosen = {"0.weight": Shard(-1), "2.*": [Shard(0)], "*.lora_B": Shard(0)}
    model = loaded(packs / "mlp", line(), chosen, dtype=torch.bfloat16, check_fingerprints=True)
    held = named(model)
    assert held["0.backbone"].placements == (Shard(1),)
    assert held["2.backbone"].placements == (Shard(0),)
    assert held["4.weight"].placements == (Replicate(),)
    assert held["0.backbone"].to_local().shape == (12, 8)
    assert not held["0.backbone"].requires_grad
    assert held["0.lora_A"].requires_grad


@case(4)
def two_dimensions_of_the_mesh(packs: Path, rank: int) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    strided = (_StridedShard(0, split_factor=2), Shard(0))
    for placements in ((Replicate(), Shard(0)), (Shard(0), Replicate()), (Shard(0), Shard(0)), strided):
        for name in ("mlp", "cnn", "llama"):
            loaded(packs / name, mesh, placements, merge=rank >= 0)
    for name in ("mlp", "cnn"):
        loaded(packs / name, mesh, lambda _, shape: (Shard(0), Shard(len(shape) - 1)) if shape else (Replicate(),) * 2)


@case(2, 4)
def shards_may_be_uneven_or_empty(packs: Path, rank: int) -> None:
    sizes = torch.tensor([named(loaded(packs / "odd", line(), Shard(0)))["2.backbone"].to_local().shape[0]])
    everyone = [torch.empty_like(sizes) for _ in range(WORLD)]
    dist.all_gather(everyone, sizes)
    assert [int(size) for size in everyone] == {2: [2, 1], 4: [1, 1, 1, 0]}[WORLD]


@case(2, 4)
def fsdp2(packs: Path, rank: int) -> None:
    for name, backbone, merge in (
        ("mlp", "parameter", False),
        ("llama", "parameter", False),
        ("llama", "buffer", False),
        ("cnn", "buffer", True),
        ("odd", "parameter", False),
    ):
        with no_communication():
            model = distributed.load_meta(packs / name, merge=merge, backbone=backbone)
        for module in model.modules():
            if type(module).__name__ == ("LlamaDecoderLayer" if name == "llama" else "AdaptedLinear"):
                fully_shard(module)
        fully_shard(model)
        with no_communication():
            assert distributed.fill_(model, packs / name, check_fingerprints=merge) is model
        whole = lottapack.load(packs / name, merge=merge)
        compare(model, whole)
        if backbone == "parameter" and name != "llama":
            assert isinstance(model[0].backbone, DTensor)
            assert not model[0].backbone.requires_grad
        given = torch.arange(6)[None] if name == "llama" else torch.ones(2, 3, 6, 6) if name == "cnn" else None
        given = torch.ones(3, whole[0].in_features) if given is None else given
        outputs = [run(given) for run in (model.eval(), whole)]
        outputs = [getattr(output, "logits", output) for output in outputs]
        assert torch.equal(*outputs)
        if not merge:
            outputs[0].float().square().sum().backward()  # the adapters train; frozen weights have no gradient
            trained = {name for name, tensor in model.named_parameters() if tensor.grad is not None}
            assert trained == {name for name, tensor in model.named_parameters() if tensor.requires_grad}


@case(2, 4)
def plain_models_on_the_meta_device(packs: Path, rank: int) -> None:
    """A user's own model: merged weights, and buffers that only its constructor computes."""
    merged = lottapack.load(packs / "llama", merge=True)
    with torch.device("meta"):
        model = type(merged)(merged.config)
    fully_shard(model)
    with no_communication():
        distributed.fill_(model, packs / "llama")
    compare(model, merged)
    other = nn.Sequential(nn.Linear(3, 3))
    try:
        distributed.fill_(other, packs / "mlp")
    except errors.ArchitectureError as error:
        assert "0.bias of shape (12,), but the model has shape (3,)" in str(error), error
    else:
        raise AssertionError("filled another model")


@case(4)
def fsdp2_over_tensor_parallelism(packs: Path, rank: int) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    model = distributed.load_meta(packs / "mlp", merge=True)
    parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    assert any(isinstance(p, _StridedShard) for p in model[0].weight.placements), model[0].weight.placements
    with no_communication():
        distributed.fill_(model, packs / "mlp")
    whole = lottapack.load(packs / "mlp", merge=True)
    compare(model, whole)


@case(2, 4)
def what_does_not_fit_is_refused_by_name(packs: Path, rank: int) -> None:
    mesh, pack = line(), packs / "mlp"
    for message, given in (
        ("0.bias: S(1) names a dimension that is not in its shape (12,)", Shard(1)),
        ("2 placements for a mesh of 1 dimensions", [Shard(0), Shard(0)]),
        ("the placement P(sum) is not supported", Partial()),
        ("is not a placement", "Shard(0)"),
        ("'nothing' does not match any tensor", {"nothing": Shard(0)}),
    ):
        refused(
            errors.PlacementError,
            message,
            lambda given=given: distributed.load(pack, mesh=mesh, placements=given),
        )
    refused(
        errors.PlacementError,
        "a mesh of cpu devices does not fit the device 'meta'",
        lambda: distributed.load(pack, mesh=mesh, placements=Shard(0), device="meta"),
    )
    refused(
        errors.LimitError,
        "`max_bytes=10` allows",
        lambda: distributed.load(pack, mesh=mesh, placements=Shard(0), max_bytes=10),
    )
    refused(
        errors.PlacementError,
        "backbone='both'",
        lambda: distributed.load_meta(pack, backbone="both"),
    )
    partial = init_device_mesh("cpu", (WORLD,))
    small = torch.distributed.DeviceMesh("cpu", [0])
    assert partial.ndim == 1
    if rank:
        refused(
            errors.PlacementError,
            "this process does not belong to the mesh (1,)",
            lambda: distributed.load(pack, mesh=small, placements=Shard(0)),
        )


@case(2)
def the_guide_runs(packs: Path, rank: int) -> None:
    """The code of docs/distributed.md, on two CPUs."""
    text = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    *loading, wrapper = blocks
    assert len(loading) == 2
    exec(compile(wrapper, "docs/distributed.md", "exec"), {})
    whole = lottapack.load(packs / "llama")
    for block in loading:
        here = block.replace('"cuda"', '"cpu"').replace("(8,)", "(2,)")
        here = here.replace("model.lotta.safetensors", str(packs / "llama"))
        scope: dict[str, nn.Module] = {}
        exec(compile(here, "docs/distributed.md", "exec"), scope)
        compare(scope["model"].eval(), whole)


@case(2)
def damage_is_found_by_every_process(packs: Path, rank: int) -> None:
    """The hash covers the whole tensor, also where only a shard is kept."""
    refused(
        errors.IntegrityError,
        "has the SHA-256",
        lambda: distributed.load(packs / "damaged", mesh=line(), placements=Shard(0)),
    )


@case(2)
def communication_would_be_noticed(packs: Path, rank: int) -> None:
    """Show that the checks above can fail."""
    tensor = distribute_tensor(torch.ones(4), line(), [Shard(0)], src_data_rank=None)

    def gather() -> None:
        with no_communication():
            tensor.full_tensor()

    refused(AssertionError, "", gather)


def run(rank: int, packs: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    results = {}
    for name, function in CASES.items():
        try:
            function(packs, rank)
            results[name] = ""
        except Exception:  # noqa: BLE001 - reported to the test
            results[name] = traceback.format_exc()
            break  # the other processes wait in a collective until its timeout
    (folder / f"{rank}.json").write_text(json.dumps(results))
    if all(not text for text in results.values()):
        dist.destroy_process_group()


def main(folder: Path, packs: Path) -> None:
    forks = sys.platform == "linux"
    if forks:
        from transformers import GPT2LMHeadModel, LlamaForCausalLM, MixtralForCausalLM  # noqa: F401
    context = multiprocessing.get_context("fork" if forks else "spawn")
    processes = [context.Process(target=run, args=(rank, packs, folder)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[3]))
