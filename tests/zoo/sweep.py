"""Over the model classes of transformers: which adapters get no gradient? Run by hand: sweep.py [SECONDS] [NAMES...].

Each class is shrunk by the names of its configuration's fields, built, run once without adapters and once with those
that scaffold() gives by default. An adapter is dead if it gets no gradient although the weight of the plain model does.
Each runs in a process of its own, forked from one that has imported transformers, with a limit of time and memory.
"""

import json
import os
import re
import resource
import select
import signal
import sys
import time
import warnings
from collections import Counter
from typing import Any

import torch
import transformers
from zoo_runs import adapted, inputs_for, reached, step

import lottapack

LIMIT_S = 40
LIMIT_BYTES = 6 << 30
LARGEST = 12_000_000  # parameters
SMALL = (
    (r"(num|n|encoder|decoder|text|vision)?_?(hidden_)?(encoder_|decoder_)?(layers?|blocks)$", 2),
    (r"vocab(ulary)?_size$", 64),
    (r"(hidden_size|d_model|n_embd|embed_dim|embedding_size|dim|model_dim)$", 32),
    (r"(intermediate_size|ffn_dim|d_ff|n_inner|mlp_dim|ffn_hidden_size|moe_intermediate_size|feed_forward)$", 48),
    (r"(num_key_value_heads|num_kv_heads)$", 2),
    (r"(attention_heads|num_heads|n_head|n_heads|encoder_attention_heads|decoder_attention_heads)$", 4),
    (r"(head_dim|d_kv|qk_nope_head_dim|qk_rope_head_dim|v_head_dim)$", 8),
    (r"(num_experts|num_local_experts|n_routed_experts)$", 4),
    (r"(num_experts_per_tok|top_k_experts)$", 2),
    (r"image_size$", 32),
    (r"patch_size$", 8),
    (r"(max_position_embeddings|n_positions|max_source_positions|max_target_positions)$", 64),
    (r"state_size$", 4),
    (r"(token|mask|image|audio|video)_(id|index)$", 3),
)


def shrunk(kind: Any, depth: int = 0) -> Any:
    """A configuration with small numbers where the name says what they are."""
    found = kind()
    values: dict[str, Any] = {}
    for name, value in found.to_dict().items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            small = next((small for pattern, small in SMALL if re.search(pattern, name)), None)
            if small is not None and small < value:
                values[name] = small
        elif "drop" in name and isinstance(value, float):
            values[name] = 0.0
    for name, sub in getattr(kind, "sub_configs", {}).items():
        if depth < 2 and isinstance(sub, type) and hasattr(sub, "to_dict"):
            values[name] = shrunk(sub, depth + 1)
    return kind(**values)


def examine(name: str) -> dict[str, Any]:
    """What became of a class."""
    kind = getattr(transformers, name)
    stage = "config"
    try:
        config = shrunk(kind.config_class)
        stage = "build"
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in kind(config).parameters())
        if size > LARGEST:
            return {"stage": "too large"}
        torch.manual_seed(1)
        model = kind(config)
        stage = "plain step"
        inputs = inputs_for(model)
        step(model, inputs)
        due = reached(model)
        model.zero_grad(set_to_none=True)
        stage = "scaffold"
        lottapack.scaffold(model, seed=1, rank=1)
        stage = "step"
        step(model, inputs)
        layers = adapted(model)
        dead = sorted((layers & due) - reached(model, "lora_B"))
    except Exception as fault:  # noqa: BLE001 (a library of hundreds of classes)
        return {"stage": stage, "why": f"{type(fault).__name__}: {fault}"[:200]}
    return {"stage": "done", "adapters": len(layers), "unused": len(layers - due), "dead": dead}


def in_a_process(name: str) -> dict[str, Any]:
    """As examine(), in a fork that may hang, crash or take memory."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        warnings.simplefilter("ignore")
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        torch.set_num_threads(1)
        os.write(send, json.dumps(examine(name)).encode())
        os._exit(0)
    os.close(send)
    ready, _, _ = select.select([receive], [], [], LIMIT_S)
    data = os.read(receive, 1 << 16) if ready else b""
    os.close(receive)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(data) if data else {"stage": "crashed" if ready else "time"}


def classes() -> list[str]:
    """One class of each kind of model: every one that has a configuration, heads of one family included."""
    found = []
    for name in sorted(dir(transformers)):
        if name.endswith(
            (
                "Model",
                "ForCausalLM",
                "ForSequenceClassification",
                "ForConditionalGeneration",
                "ForCTC",
                "ForImageClassification",
                "LMHeadModel",
                "ForMaskedLM",
            )
        ) and not name.startswith("PreTrained"):
            kind = getattr(transformers, name, None)
            if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel) and kind.config_class:
                found.append(name)
    return found


def main() -> None:
    """Print a line for each class with dead adapters, and how many there were of what."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    names = sys.argv[2:] or classes()
    # In an order that is the same everywhere and favours no letter, so that a sweep that is cut short is a sample.
    names.sort(key=lambda name: sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 1009)
    began, counts, reasons = time.monotonic(), Counter[str](), Counter[str]()
    adapters = unused = 0
    for number, name in enumerate(names):
        if time.monotonic() - began > seconds:
            print(f"stopped after {number} of {len(names)} classes")
            break
        found = in_a_process(name)
        counts[found["stage"]] += 1
        if found["stage"] == "done":
            adapters += found["adapters"]
            unused += found["unused"]
            if found["dead"]:
                counts["with a dead adapter"] += 1
                print(f"DEAD {name}: {len(found['dead'])} of {found['adapters']}: {found['dead'][:4]}", flush=True)
        elif found["stage"] in ("scaffold", "step"):
            print(f"{found['stage']} {name}: {found.get('why')}", flush=True)
        else:
            reasons[f"{found['stage']}: {found.get('why', '')[:70]}"] += 1
    print(dict(counts), f"{adapters} adapters, {unused} on layers that the plain model does not use either")
    for reason, count in reasons.most_common(15):
        print(f"  {count:4} {reason}")


if __name__ == "__main__":
    main()
