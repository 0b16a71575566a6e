"""Over the model classes of transformers: which adapters get no gradient? Run by hand: sweep.py --help.

Each class is shrunk by the names of its configuration's fields, built, run once without adapters and once with those
that scaffold() gives by default. An adapter is dead if it gets no gradient although the weight of the plain model does.
Each runs in a process of its own, forked from one that has imported transformers, with a limit of time and memory.
"""

import argparse
import json
import os
import re
import resource
import select
import signal
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from zoo_attempts import attempts
from zoo_runs import adapted, reached, step

import lottapack

LIMIT_S = 25
LIMIT_BYTES = 6 << 30
LARGEST = 30_000_000  # parameters
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
    if getattr(found, "pad_token_id", 0) is None or getattr(found, "pad_token_id", 0) >= 64:
        values["pad_token_id"] = 0  # without one, a batch of two cannot be classified
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
        with torch.no_grad():
            for parameter in model.parameters():  # so that no gradient is zero by how a model starts
                if parameter.is_floating_point():
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        inputs = first_that_runs(model)
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


def first_that_runs(model: torch.nn.Module) -> dict[str, Any]:
    """Inputs with which a step of the model runs. Its first fault, if there are none."""
    first: Exception | None = None
    for inputs in attempts(model):
        model.zero_grad(set_to_none=True)
        try:
            step(model, inputs)
        except Exception as fault:  # noqa: BLE001 (a library of hundreds of classes)
            first = first or fault
        else:
            return inputs
    assert first is not None
    raise first


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
        ) and not name.endswith("PreTrainedModel"):
            kind = getattr(transformers, name, None)
            if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel) and kind.config_class:
                found.append(name)
    return found


def main() -> None:
    """Print a line for each class with dead adapters, and how many there were of what."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("names", nargs="*", help="classes, instead of all of them")
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--log", type=Path, help="a line for each class; those that it has already are not run again")
    words.add_argument("--part", default="1/1", help="2/3: the second of three processes that share the classes")
    given = words.parse_args()
    log: Path | None = given.log
    done = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    names = given.names or classes()
    # In an order that is the same everywhere and favours no letter, so that a sweep that is cut short is a sample.
    names.sort(key=lambda name: sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 1009)
    part, parts = map(int, given.part.split("/"))
    known, began = {name for name, _ in done}, time.monotonic()
    for name in names[part - 1 :: parts]:
        if time.monotonic() - began > given.seconds:
            break
        if name not in known:
            done.append([name, in_a_process(name)])
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    summary(done, len(names))


def summary(done: list[Any], total: int) -> None:
    """Print what the classes came to."""
    counts, reasons = Counter[str](), Counter[str]()
    adapters = unused = 0
    for name, found in done:
        counts[found["stage"]] += 1
        if found["stage"] == "done":
            adapters += found["adapters"]
            unused += found["unused"]
            if found["dead"]:
                counts["with a dead adapter"] += 1
                print(f"DEAD {name}: {len(found['dead'])} of {found['adapters']}: {found['dead'][:4]}")
        elif found["stage"] in ("scaffold", "step"):
            print(f"{found['stage']} {name}: {found.get('why')}")
        else:
            reasons[f"{found['stage']}: {found.get('why', '')[:90]}"] += 1
    print(f"{len(done)} of {total} classes: {dict(counts)}")
    print(f"{adapters} adapters, {unused} on layers that the plain model does not use either")
    for reason, count in reasons.most_common(25):
        print(f"  {count:4} {reason}")


if __name__ == "__main__":
    main()
