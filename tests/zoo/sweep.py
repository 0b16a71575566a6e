"""Over the models of transformers, timm and diffusers: what comes of each, and where it ends? Run by ``make zoo``.

Each class of transformers and diffusers is shrunk by the names of its configuration's fields; models of timm are built
as they are. Each is run once without adapters and once with those that scaffold() gives by default, packed and loaded.
An adapter is dead if it gets no gradient although the weight of the model that load(merge=True) returns does, which
computes the same. Each model has a process of its
own, forked from one that has imported the library, with a limit of time and memory. A log makes a sweep resumable, and
a table tells what it came to by library and cause. A library that is not installed is left out.
"""

import argparse
import gc
import itertools
import json
import os
import re
import resource
import select
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sweep_libraries import LIBRARIES, Build, Case, Inputs
from zoo_runs import adapted, floating, furthest, reached, same_bits, step

import lottapack
from lottapack.format.recipe import BUFFER, StoredRecipe, of_tensor
from lottapack.nn import recipe_of
from lottapack.nn.attach import recipe_text

LIMIT_CPU_S = 20
LIMIT_S = 900
LIMIT_BYTES = 6 << 30
LARGEST_OF_OTHERS = 100_000_000
"""Parameters."""
LARGEST = {"timm": 150_000_000, "diffusers": 50_000_000}
"""Parameters: models of timm cannot be made smaller."""
NEAR = 1e-3
"""How far outputs of merged weights may be from those of adapters, in units of the largest."""
STEPS = 3
"""With how many of a case's configurations a step is tried, before a model is examined without inputs."""


class Found(NamedTuple):
    """A configuration of a case that builds, and inputs with which a step runs, or why none did."""

    build: Build
    inputs: Inputs | None
    why: str


class Packed(NamedTuple):
    """What came of a pack: its size as part of the checkpoint's, and what differs when it is loaded, if anything does.

    ``due``: the parameters that get a gradient in the merged model.
    """

    share: float
    faults: str
    due: set[str]


def examine(case: Case, allow: Sequence[str] = ("timm", "transformers", "diffusers", "own_modules")) -> dict[str, Any]:
    """What became of a model. ``allow``: what its pack may import."""
    found = usable(case)
    if isinstance(found, dict):
        return found
    build, inputs, stage = found.build, found.inputs, "scaffold"
    told: dict[str, Any] = {} if inputs is not None else {"no inputs": found.why}
    try:
        torch.manual_seed(1)
        model = build(True)
        lottapack.scaffold(model, seed=1, rank=1)
        disturb(model)
        layers = adapted(model)
        told |= {"adapters": len(layers), "in full": in_full(model)}
        stage = "step"
        if inputs is not None:
            step(model, inputs)
        stage = "pack"
        told["share"], faults, due = packed(model, inputs, allow)
        if inputs is not None:
            told["unused"] = len(layers - due)
            told["dead"] = sorted((layers & due) - reached(model, "lora_B"))
    except Exception as fault:  # noqa: BLE001 (libraries of hundreds of classes)
        return {**told, "stage": stage, "why": f"{type(fault).__name__}: {fault}"[:400]}
    return {**told, "stage": "load", "why": faults} if faults else {**told, "stage": "done"}


def usable(case: Case) -> Found | dict[str, Any]:
    """The first of a case's configurations that builds and runs, or else that builds; or where the first ended."""
    faults: list[dict[str, Any]] = []
    without: list[Found] = []
    for prepared in case.prepared:
        stage = "config"
        try:
            build = prepared()
            stage = "build"
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in build(False).parameters())
            if size > LARGEST.get(case.library, LARGEST_OF_OTHERS):
                faults.append({"stage": "too large"})
                continue
            torch.manual_seed(1)
            model = build(True)
        except Exception as fault:  # noqa: BLE001 (libraries of hundreds of classes)
            faults.append({"stage": stage, "why": f"{type(fault).__name__}: {fault}"[:400]})
            continue
        disturb(model)  # so that no gradient is zero by how a model starts
        if len(without) < STEPS:
            inputs, why = first_that_runs(model, case)
            if inputs is not None:
                return Found(build, inputs, "")
            without.append(Found(build, None, why))
    return without[0] if without else faults[0]


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    """Change each parameter that is trained a little."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)


def in_full(model: torch.nn.Module) -> dict[str, int]:
    """The largest of what is stored in full, other than embeddings, heads, norms and vectors, with their sizes."""
    state, roles = model.state_dict(), recipe_of(model).parameters
    sizes = {
        name: state[name].numel()
        for name, role in roles.items()
        if isinstance(role, StoredRecipe) and role.group in ("other", "buffer") and state[name].dim() > 1
    }
    return dict(sorted(sizes.items(), key=lambda item: -item[1])[:4])


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict, with the recipe as it was scaffolded: it also tells of caches that a forward pass filled."""
    state = model.state_dict()
    state[BUFFER] = recipe_text(of_tensor(state[BUFFER]).as_scaffolded())
    return state


def packed(model: torch.nn.Module, inputs: Inputs | None, allow: Sequence[str]) -> Packed:
    """What came of packing a model and loading it both ways."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lotta.safetensors"
        size = lottapack.pack(model, path).size
        loaded = lottapack.load(path, allow=allow)
        merged = lottapack.load(path, allow=allow, merge=True)
        virtual = lottapack.load(path, allow=allow, backbone="blocks")
    state, theirs = tensors_of(model), tensors_of(loaded)
    other = [name for name in state if name not in theirs or not same_bits(state[name], theirs[name])]
    if other:
        return Packed(0.0, f"tensors differ: {other[:3]}", set())
    share = size / sum(tensor.numel() * tensor.element_size() for tensor in merged.state_dict().values())
    if inputs is None:
        return Packed(share, "", set())
    with torch.no_grad():
        wanted, same, near, without = (outputs(one, inputs) for one in (model, loaded, merged, virtual))
    if len(wanted) != len(same) or not all(map(same_bits, wanted, same)):
        return Packed(share, "outputs differ", set())
    faults = ""
    for way, far in {"merged": furthest(wanted, near), "virtual": furthest(wanted, without)}.items():
        if far > NEAR:  # some models amplify rounding: what do their inputs' last bits change?
            rounded = {name: one * (1 + 2**-23) if one.is_floating_point() else one for name, one in inputs.items()}
            with torch.no_grad():
                if far > 10 * furthest(wanted, outputs(model, rounded)):
                    faults = f"{way} outputs differ by {far:.2g}"
    for parameter in merged.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    step(merged, inputs)
    return Packed(share, faults, reached(merged))


def outputs(model: torch.nn.Module, inputs: dict[str, Any]) -> list[torch.Tensor]:
    """The floating outputs in evaluation mode."""
    torch.manual_seed(0)
    model.eval()
    positional = inputs.get("x")
    return list(floating(model(positional) if positional is not None else model(**inputs)))


def first_that_runs(model: torch.nn.Module, case: Case) -> tuple[Inputs | None, str]:
    """Inputs with which a step of the model runs; None and the first fault, if there are none."""
    first = ""
    for inputs in guarded(case.attempts(model)):
        model.zero_grad(set_to_none=True)
        try:
            if isinstance(inputs, Exception):
                raise inputs
            step(model, inputs)
        except Exception as fault:  # noqa: BLE001 (a library of hundreds of classes)
            first = first or f"{type(fault).__name__}: {fault}"[:400]
        else:
            return inputs, ""
    return None, first


def guarded(attempts: Iterator[Inputs]) -> Iterator[Inputs | Exception]:
    """The attempts, and a fault in making them as the last."""
    try:
        yield from attempts
    except Exception as fault:  # noqa: BLE001 (a library of hundreds of classes)
        yield fault


def started(case: Case, cpu: int) -> tuple[int, int]:
    """A fork that examines a model, and may hang, crash or take memory: its number, and where it writes."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        warnings.simplefilter("ignore")
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        torch.set_num_threads(1)
        os.write(send, json.dumps(examine(case)).encode())
        os._exit(0)
    os.close(send)
    return child, receive


def results(cases: Iterable[Case], jobs: int, cpu: int = LIMIT_CPU_S) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Each case with what came of it, as they end, at most ``jobs`` at a time, each for ``cpu`` seconds."""
    waiting, running = iter(cases), dict[int, tuple[Case, int, float]]()
    while True:
        for case in itertools.islice(waiting, jobs - len(running)):
            child, receive = started(case, cpu)
            running[receive] = case, child, time.monotonic()
        if not running:
            return
        oldest = min(began for _, _, began in running.values())
        ready, _, _ = select.select([*running], [], [], max(oldest + LIMIT_S - time.monotonic(), 0))
        for receive, (case, child, began) in list(running.items()):
            taken = time.monotonic() - began
            if receive not in ready and taken < LIMIT_S:
                continue
            data = os.read(receive, 1 << 16) if receive in ready else b""
            os.close(receive)
            if receive not in ready:
                os.kill(child, signal.SIGKILL)
            ended = os.WTERMSIG(os.waitpid(child, 0)[1])
            del running[receive]
            late = ended in (signal.SIGXCPU, signal.SIGKILL)
            found = json.loads(data) if data else {"stage": "time" if late else "crashed"}
            yield case, {**found, "seconds": round(taken, 1)}


def imported() -> None:
    """Import what a model needs here once, instead of in each of the processes."""
    torch.set_num_threads(1)
    examine(next(LIBRARIES["own"]([])))


def main() -> None:
    """Examine models, print what needs attention, and write the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("names", nargs="*", help="models, instead of all of the libraries")
    words.add_argument("--library", choices=LIBRARIES, action="append", help="by default each that is installed")
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--cpu", type=int, default=LIMIT_CPU_S, help="how many seconds a model may compute")
    words.add_argument("--log", type=Path, help="a line for each model; those that it has already are not run again")
    words.add_argument("--table", type=Path, help="where to write what it came to, as Markdown")
    words.add_argument("--jobs", type=int, default=2, help="how many processes at a time")
    given = words.parse_args()
    log: Path | None = given.log
    done = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    cases = [case for library in given.library or LIBRARIES for case in LIBRARIES[library](given.names)]
    # In an order that is the same everywhere and favours no letter, so that a sweep that is cut short is a sample.
    cases.sort(
        key=lambda case: (
            case.rare * 1009 + sum(ord(letter) * 31**place for place, letter in enumerate(case.name)) % 1009
        )
    )
    imported()
    gc.freeze()  # or a child's collector would write to, and so copy, all of the memory
    known, until = {(library, name) for library, name, _ in done}, time.monotonic() + given.seconds
    new = (case for case in cases if (case.library, case.name) not in known)
    for case, found in results(itertools.takewhile(lambda _: time.monotonic() < until, new), given.jobs, given.cpu):
        done.append([case.library, case.name, found])
        if log:
            with log.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    summary(done, len(cases))
    if given.table:
        given.table.write_text(table(done))


def summary(done: list[Any], total: int) -> None:
    """Print what needs attention, and how many models there were of what."""
    counts = Counter(found["stage"] for _, _, found in done)
    for library, name, found in done:
        if found["stage"] == "done" and found.get("dead"):
            counts["with a dead adapter"] += 1
            print(f"DEAD {library} {name}: {len(found['dead'])} of {found['adapters']}: {found['dead'][:4]}")
        elif found["stage"] in ("scaffold", "step", "pack", "load"):
            print(f"{found['stage']} {library} {name}: {found.get('why')}")
    adapters, unused = (sum(found.get(key, 0) for _, _, found in done) for key in ("adapters", "unused"))
    print(f"{len(done)} models in the log, of {total} asked for: {dict(counts)}")
    print(f"{adapters} adapters, {unused} on weights that the plain model does not use either")


def table(done: list[Any]) -> str:
    """What the models came to, by library and cause."""
    rows = Counter[tuple[str, str, str]]()
    for library, _, found in done:
        stage, why = found["stage"], found.get("why", "")
        if stage == "done":
            stage = "dead adapters" if found.get("dead") else "done, without inputs" if "no inputs" in found else stage
        rows[library, stage, re.sub(r"\s+", " ", why)[:80].replace("|", "/")] += 1
    lines = ["| library | ended at | cause | models |", "|---|---|---|---:|"]
    for (library, stage, cause), count in sorted(rows.items(), key=lambda item: (item[0][0], -item[1], item[0])):
        lines.append(f"| {library} | {stage} | {cause} | {count} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
