"""The program of each process in test_ddp.py: ``python ddp_cases.py RANK STORE``."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.checkpoint import save
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from models import all_bits, mlp

import lottapack

RANK = int(sys.argv[1])


class Wrapper(nn.Module):
    """Like a LightningModule: holds the scaffolded model and its own buffers."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.full((16,), float(RANK)))
        lottapack.distributed.exclude_from_ddp(self)

    def forward(self, given: Tensor) -> Tensor:
        return self.net(given - self.mean)


def scaffolded() -> nn.Module:
    return lottapack.scaffold(mlp(), seed=1, rank=2, scaffolds={"b": 2})


def loaded() -> nn.Module:
    path = Path(sys.argv[2]).parent / f"{RANK}.lotta.safetensors"
    lottapack.pack(scaffolded(), path)
    return lottapack.load(path).train()


def regional() -> nn.Module:
    model = scaffolded()
    model[2] = torch.compile(model[2], backend="eager")
    return lottapack.distributed.exclude_from_ddp(model)


def step(given: DistributedDataParallel) -> None:
    draws = torch.Generator().manual_seed(RANK)
    given(torch.randn(4, 16, generator=draws)).sum().backward()


def each_on_its_own_scaffold(model: nn.Module) -> None:
    distributed = DistributedDataParallel(model)
    if RANK == 1:
        lottapack.switch(model, "b")
    weight = next(module for module in model.modules() if type(module).__name__ == "AdaptedLinear")
    before = weight.backbone.clone()
    step(distributed)
    step(distributed)
    assert torch.equal(weight.backbone, before)
    assert lottapack.nn.active_scaffold(model) == ("b" if RANK else "default")
    names = {name for name, _ in distributed.named_module_buffers.items()}
    assert not any(name.endswith((".backbone", "lottapack_recipe")) for name in names), names
    assert_same([parameter.grad for parameter in model.parameters() if parameter.requires_grad])


def assert_same(tensors: list[Tensor]) -> None:
    for tensor in tensors:
        assert tensor is not None
        both = [torch.empty_like(tensor), torch.empty_like(tensor)]
        dist.all_gather(both, tensor)
        assert torch.equal(*both)
        assert bool(tensor.abs().sum() > 0) or tensor.numel() == 0


def fully_sharded() -> None:
    """FSDP2: a full state_dict packs; shards raise errors that say how to join them."""
    folder = Path(sys.argv[2]).parent / "sharded"
    model = scaffolded()
    due = all_bits(model)
    fully_shard(model)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    full = get_model_state_dict(model, options=options)
    for given in (model, model.state_dict()):
        try:
            lottapack.pack(given, folder / "no.lotta.safetensors")
        except lottapack.errors.CheckpointError as fault:
            assert "distributed tensor" in str(fault) and "full_state_dict=True" in fault.hint
        else:
            raise AssertionError("packed")
    save({"model": get_model_state_dict(model)}, checkpoint_id=folder)
    if RANK == 0:
        pack = folder.parent / "full.lotta.safetensors"
        lottapack.pack(full, pack)
        assert all_bits(lottapack.load(pack)) == due
        try:
            lottapack.pack(folder, pack)
        except lottapack.errors.CheckpointError as fault:
            assert "dcp_to_torch" in fault.hint
        dcp_to_torch_save(folder, folder.parent / "joined.pt")
        lottapack.pack(folder.parent / "joined.pt", pack)
        assert all_bits(lottapack.load(pack)) == due
    dist.barrier()


def replicated() -> None:
    """torch's function in the place of the wrapper gives the model another class, which is packed as its own."""
    model = replicate(scaffolded())
    due = all_bits(model)
    pack = Path(sys.argv[2]).parent / f"replicated{RANK}.lotta.safetensors"
    lottapack.pack(model, pack)
    assert all_bits(lottapack.load(pack)) == due


def main() -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(sys.argv[2], 2)
    dist.init_process_group("gloo", store=store, rank=RANK, world_size=2, timeout=timedelta(seconds=60))
    for build in (scaffolded, loaded, regional, lambda: Wrapper(scaffolded()), lambda: torch.compile(scaffolded())):
        model = build()
        if type(model).__name__ == "OptimizedModule":
            model = torch.compile(model._orig_mod, backend="eager")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("lora_B"):  # else no gradient reaches A
                    parameter.fill_(0.1)
        each_on_its_own_scaffold(model)
        if isinstance(model, Wrapper):
            assert model.mean.sum() == 0  # stored tensors are still those of the first process
    drawn = DistributedDataParallel(Wrapper(lottapack.init_backbone_(mlp(), seed=1)))
    step(drawn)
    assert_same([parameter.grad for parameter in drawn.parameters()])  # trained in full, so it takes part
    replicated()
    fully_sharded()
    dist.destroy_process_group()
    print("done")


if __name__ == "__main__":
    main()
