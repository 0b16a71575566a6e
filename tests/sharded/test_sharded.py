"""Shards of 2 and 4 processes over gloo have the bits of one process, without communication."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from extent import extent
from models import mlp, tied_llama, train, trained
from torch import nn

import lottapack

HERE = Path(__file__).parent

WORLDS = {
    2: [
        "rows_and_columns_of_each_architecture",
        "recurrent_layers_with_adapters",
        "placements_by_pattern_and_dtype",
        "shards_may_be_uneven_or_empty",
        "fsdp2",
        "plain_models_on_the_meta_device",
        "what_does_not_fit_is_refused_by_name",
        "the_guide_runs",
        "damage_is_found_by_every_process",
        "communication_would_be_noticed",
        "every_way_gives_one_model",
        "tensor_parallelism_gives_one_model",
        "plans_for_adapted_embeddings_run_or_are_refused",
        "a_plan_trains_what_one_process_trains",
        "a_training_on_different_scaffolds_is_refused_in_every_process",
        "other_plans_do_with_adapted_layers_what_they_do_with_stock_layers",
        "tied_weights_that_would_be_trained_apart_are_refused",
        "mixed_precision_of_fsdp2_takes_every_backbone",
        "a_distributed_checkpoint_is_taken_up",
        "a_switch_of_distributed_weights_is_refused_before_anything_changes",
    ],
    4: extent(
        ["two_dimensions_of_the_mesh", "fsdp2_over_tensor_parallelism"],
        [
            "rows_and_columns_of_each_architecture",
            "two_dimensions_of_the_mesh",
            "shards_may_be_uneven_or_empty",
            "fsdp2",
            "plain_models_on_the_meta_device",
            "fsdp2_over_tensor_parallelism",
            "what_does_not_fit_is_refused_by_name",
        ],
    ),
}


def mixtral():
    """A mixture of experts: weights of three dimensions that the module's own code reads."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    return MixtralForCausalLM(MixtralConfig(vocab_size=64, num_hidden_layers=2, num_local_experts=4, **sizes))


@pytest.fixture(scope="session")
def packs(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("packs")
    for name in ("mlp", "cnn", "text", "llama", "gpt2"):
        lottapack.pack(trained(name), folder / name)
    others = {
        "mlp frozen": (mlp(), {"targets": ["0"], "train": ["heads"]}, {}),
        "mlp bfloat16": (mlp().to(torch.bfloat16), {}, {}),
        "mlp float16 stored": (mlp(), {}, {"compression": lottapack.Compression(dtype="float16")}),
        "llama frozen": (tied_llama(), {"targets": ["*_proj"], "train": ["norms"]}, {}),
        "llama adapted": (tied_llama(), {"targets": ["embed_tokens", "*_proj"]}, {}),
        "llama moe": (mixtral(), {"shared_factor": {"gate_up_proj": "lora_A", "down_proj": "lora_B"}}, {}),
        "lstm": (lottapack.build("python", "torch.nn:LSTM", input_size=6, hidden_size=5), {}, {}),
        "mlp vera": (mlp(), {"vera": True}, {}),
        "mlp diagonal": (mlp(), {"rank": 0, "beta": "input"}, {}),
        "scaffolds": (mlp(), {"scaffolds": {"b": 8}}, {}),
    }
    for name, (model, options, stored) in others.items():
        lottapack.pack(train(lottapack.scaffold(model, **{"seed": 7, "rank": 2, **options})), folder / name, **stored)
    odd = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 3))
    lottapack.pack(train(lottapack.scaffold(odd, seed=9, rank=1)), folder / "odd")
    for name, options in (("embedding", {}), ("embedding diagonal", {"rank": 0, "beta": "input"})):
        plain = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 3))
        embedding = lottapack.scaffold(plain, **{"seed": 3, "rank": 2, "targets": "*", **options})
        if not options:
            nn.init.normal_(embedding[0].lora_B)
        lottapack.pack(embedding, folder / name)
    damaged = bytearray((folder / "mlp").read_bytes())
    damaged[-1] ^= 1
    (folder / "damaged").write_bytes(damaged)
    return folder


@pytest.fixture(scope="session", params=WORLDS)
def results(request, packs, tmp_path_factory):
    """Return each case's faults. All cases of one world size run in the same processes."""
    world, folder = request.param, tmp_path_factory.mktemp(f"world{request.param}")
    line = [sys.executable, str(HERE / "shard_cases.py"), str(folder), str(world), str(packs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    # A session of its own, so that what hangs is killed with its children.
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment
    ) as running:
        try:
            output = running.communicate(timeout=480)[0]
        finally:
            if os.name == "posix":
                with suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
            running.kill()
    written = [folder / f"{rank}.json" for rank in range(world)]
    found = [json.loads(path.read_text()) if path.exists() else {} for path in written]
    return world, found, output


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted({case for cases in WORLDS.values() for case in cases}))
def test_case(case, results):
    world, found, output = results
    if case not in WORLDS[world]:
        assert not any(case in rank for rank in found)
        return
    for rank in found:
        assert case in rank, output[-3000:]
        assert not rank[case], rank[case]


def test_no_case_is_left_out(results):
    world, found, _ = results
    assert all(sorted(rank) == sorted(WORLDS[world]) for rank in found)
