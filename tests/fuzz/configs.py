"""Configurations of every model type that transformers has, made small, and changed by one number or text.

python tests/fuzz/configs.py SECONDS [SEED]

Builds changed configurations for so long, each with the table of the model that it was before, and prints those after
which anything but a LottapackError came out, or that took 3 s or 300 MB more than their table allows.
"""

import copy
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any, Final

from lottapack import arch
from lottapack.arch.budget import Budget
from lottapack.arch.skeleton import budget_of
from lottapack.arch.trust import allowing
from lottapack.arch.watched import anonymous_memory
from lottapack.errors import LottapackError
from lottapack.format.arguments import encode
from lottapack.format.descriptor import Architecture

SECONDS: Final = 15.0
"""Of processor time, all threads together, besides what the table allows."""
BYTES: Final = 300_000_000
NUMBERS: Final = (
    10**9,
    2**40,
    -1,
    0,
    2**20,
    2**21,
    100_000,
    2**24,
    2**25,
    2**63 - 1,
    2**64 - 1,
    -(2**40),
    1000,
    30_000,
)
"""Large ones, and those that the limits just let through."""
OTHERS: Final = (
    None, True, 1e9, 1e300, -1e9, 0.5, "", "a", "10000000000", "hf-hub:a/b", "../../a.pt", "/etc/passwd", [], {},
    [10**6] * 30, [[["global"], 10**6]], {"a": 10**9},
)  # fmt: skip
SOME: Final = (
    "albert", "bart", "bert", "blip", "clip", "codegen", "convnext", "deberta-v2", "detr", "distilbert", "fnet",
    "gemma3",
    "gpt2", "gpt_neo", "jamba", "llama", "longformer", "mamba", "mixtral", "opt", "perceiver", "reformer", "resnet",
    "roformer", "rwkv", "swin", "t5", "vit", "wav2vec2", "whisper", "xlnet",
)  # fmt: skip
_COUNTS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers", "depth")


@dataclass(frozen=True)
class Seed:
    """A configuration that can be built, and what building one with its table may cost."""

    name: str
    architecture: Architecture
    budget: Budget
    allow: tuple[str, ...] = ()


@dataclass
class Taken:
    """What a build took."""

    seconds: float = 0.0
    growth: int = 0
    error: BaseException | None = field(default=None)


def small(config: Any) -> Any:
    """A configuration with one or two layers and few words, where it says so."""
    if isinstance(config, dict):
        return {key: _small(key, value) for key, value in config.items()}
    return [small(item) for item in config] if isinstance(config, list) else config


def _small(key: str, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return min(value, 2) if key in _COUNTS else min(value, 1000) if key == "vocab_size" else value
    return small(value)


@cache
def seed_of(model_type: str) -> Seed | None:
    """The seed of a model type; None if its default configuration cannot be built here."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    from lottapack.arch.transformers_models import plain_config

    try:
        kind = CONFIG_MAPPING[model_type]
        found = MODEL_MAPPING[kind]
        cls = found[0] if isinstance(found, tuple) else found
        whole = plain_config(kind().to_dict())
    except Exception:  # noqa: BLE001 - a library that another lacks, a type without a model
        return None
    for config in (small(whole), whole):
        try:
            architecture = arch.checked("transformers", cls.__name__, config)
            return Seed(model_type, architecture, budget_of(arch.build(architecture)))
        except LottapackError:
            continue
    return None


@cache
def calls() -> tuple[Seed, ...]:
    """Seeds of the other families."""
    child = {"in_features": 4, "out_features": 4, "bias": True}
    tree = {"children": [{"name": str(i), "class": "Linear", "config": child} for i in range(3)]}
    layer = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}
    stack = {"encoder_layer": {"class": "torch.nn.modules.transformer:TransformerEncoderLayer", "config": layer}}
    found = [
        ("torch.nn", "Sequential", tree, ()),
        ("python", "torch.nn.modules.transformer:TransformerEncoder", {**stack, "num_layers": 2}, ("torch",)),
        ("python", "torch.nn.modules.rnn:LSTM", {"input_size": 4, "hidden_size": 4, "num_layers": 2}, ("torch",)),
        ("timm", "vit_tiny_patch16_224", {"img_size": 32, "depth": 2, "patch_size": 8}, ()),
        ("timm", "swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (2, 2), "num_heads": (2, 4)}, ()),
        ("timm", "resnet10t", {"num_classes": 10, "in_chans": 3}, ()),
    ]
    seeds = []
    for family, cls, arguments, allow in found:
        config = {name: encode(name, value) for name, value in arguments.items()}
        architecture = arch.checked(family, cls, config)
        try:
            with allowing(allow):
                seeds.append(Seed(f"{family} {cls}", architecture, budget_of(arch.build(architecture)), allow))
        except LottapackError:  # timm is not here
            continue
    return tuple(seeds)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a configuration that holds a value which is no container."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = []
    for key, item in items:
        found += places(item) if isinstance(item, dict | list) and item else [(value, key)]
    return found


def mutations(seed: Seed, draw: random.Random) -> Iterator[Architecture]:
    """Endless changes of one or two values, of integers above all."""
    while True:
        config = copy.deepcopy(seed.architecture.config)
        known = places(config)
        numbers = [(c, k) for c, k in known if isinstance(c[k], int) and not isinstance(c[k], bool)]
        for _ in range(draw.choice((1, 1, 1, 2))):
            container, key = draw.choice(numbers if numbers and draw.randrange(5) else known)
            container[key] = copy.deepcopy(draw.choice(NUMBERS if draw.randrange(4) else OTHERS))
        yield Architecture(family=seed.architecture.family, class_=seed.architecture.class_, config=config)


def measured(architecture: Architecture, budget: Budget, allow: tuple[str, ...] = ()) -> Taken:
    """Build it, and say what that took."""
    taken, done = Taken(), threading.Event()
    before = anonymous_memory()

    def look() -> None:
        while not done.wait(0.005):
            taken.growth = max(taken.growth, anonymous_memory() - before)

    thread = threading.Thread(target=look)
    thread.start()
    begin = time.process_time()
    try:
        checked = arch.checked(architecture.family, architecture.class_, architecture.config)
        with allowing(allow):
            arch.build(checked, budget)
    except BaseException as fault:  # noqa: BLE001 - what it is is looked at
        taken.error = fault.with_traceback(None)  # whose frames hold this one, and what was built
    taken.seconds = time.process_time() - begin
    done.set()
    thread.join()
    return taken


def fault(architecture: Architecture, budget: Budget, allow: tuple[str, ...] = ()) -> str:
    """What is wrong with what a configuration does; or nothing. What imports a library has a second chance."""
    taken, seconds = measured(architecture, budget, allow), SECONDS + budget.seconds(0)
    if taken.seconds > seconds or taken.growth > BYTES + budget.nbytes:
        taken = measured(architecture, budget, allow)
    if taken.error is not None and not isinstance(taken.error, LottapackError):
        return f"{type(taken.error).__name__}: {taken.error}"
    if taken.seconds > seconds:
        return f"took {taken.seconds:.1f} s"
    grown = taken.growth - budget.nbytes
    return f"took {grown / 1e6:,.0f} MB" if grown > BYTES else ""


def sweep(
    seeds: Callable[[], Iterator[Seed]], seconds: float, draw: random.Random, each: int = 1
) -> tuple[int, list[str]]:
    """How many configurations were built in a time, ``each`` of a seed before the next, and the faults of some."""
    end, count, faults = time.monotonic() + seconds, 0, []
    while time.monotonic() < end:
        for seed in seeds():
            for architecture in islice(mutations(seed, draw), each):
                if time.monotonic() > end:
                    return count, faults
                found = fault(architecture, seed.budget, seed.allow)
                count += 1
                if found:
                    changed = json.dumps(_difference(seed.architecture.config, architecture.config))
                    faults.append(f"{seed.name} {architecture.class_} {changed[:500]}: {found}")
                    print(faults[-1], flush=True)
    return count, faults


def _difference(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: _difference(one.get(key), value) for key, value in other.items() if one.get(key) != value}
    return other


def main() -> int:
    """Sweep over all model types; the exit status."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    seconds, number = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    draw, names = random.Random(number), list(CONFIG_MAPPING)

    def seeds() -> Iterator[Seed]:
        draw.shuffle(names)
        yield from calls()
        for name in names:
            found = seed_of(name)
            if found is not None:
                yield found

    count, faults = sweep(seeds, seconds, draw, each=20)
    print(f"{count:,} configurations in {seconds:.0f} s, seed {number}, {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
