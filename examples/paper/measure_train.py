"""One training run of measure.py: what to run as a plain dict, and its scores as another."""

import math
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import measure_cartpole
import measure_changes as changes
import measure_data as data
import measure_karate
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

import lottapack

Run = dict[str, Any]
"""What to run: ``task`` (digits, mnist, text, karate, cartpole), ``side`` (full; lotta, on a random backbone; lora, on
a trained one), ``rank``, ``lr``, ``seed``. Where they differ from the default: ``scaffold`` (arguments of scaffold();
full training then begins with the weights that such a model has before training), ``init`` (a
family of examples/initialisations.py, or a name of measure_changes.MORE_INITS), ``ratio`` (LoRA+: B's learning rate
over A's), ``change`` (a name of measure_changes.CHANGES), ``dropout`` (of full training), ``steps``, ``epochs``,
``decay`` (of weights), ``smoothing`` (of labels, while training), ``moved`` (images are turned, scaled and shifted at
random while training; a number says how many times as far), ``upright`` (all images are sheared upright first, by
measure_data.upright), ``start`` (``"inputs"``: each A begins with the directions in which its inputs differ most).
"""

OWN: dict[str, Any] = {"cartpole": measure_cartpole, "karate": measure_karate}
"""Tasks with a model, a loop and a score of their own."""
WIDTHS = (512, 256, 128, 64)
"""The paper's perceptron."""
PIXELS = {"digits": 64, "mnist": 784}
EPOCHS = {"digits": 30, "mnist": 20}
BATCH = {"digits": 64, "mnist": 128}
DECAY = 0.01
STEPS, TEXT_BATCH, WINDOW = 1200, 8, 128


def build(task: str, seed: int, dropout: float = 0.0) -> nn.Module:
    """The plain model, drawn by torch from the seed; ``dropout`` on the inputs of hidden layers of a perceptron."""
    torch.manual_seed(seed)
    if task == "text":
        return llama()
    if task in OWN:
        return OWN[task].build()
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise((PIXELS[task], *WIDTHS)):
        layers += [*([nn.Dropout(dropout)] if dropout else []), nn.Linear(d_in, d_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 10))


def llama() -> nn.Module:
    """A Llama of 1.8 million parameters over bytes: 4 layers of width 192."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=WINDOW,
            tie_word_embeddings=True,
        )
    )


def perform(run: Run) -> dict[str, Any]:
    """Train a model; return its scores, its trained elements, the bytes of its file, its betas and the CPU seconds."""
    torch.set_num_threads(1)
    model, noted = prepared(run)
    begin = time.process_time()
    if run["task"] in OWN:
        scores, curve = OWN[run["task"]].learn(model, run), []
        seconds = time.process_time() - begin
    else:
        scores, curve, seconds = _supervised(model, run)
    return {
        **scores,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total": sum(p.numel() for p in build(run["task"], 0).parameters()),
        "bytes": size(model, run),
        "seconds": round(seconds, 2),
        "betas": [round(p.item(), 4) for name, p in model.named_parameters() if name.endswith("beta")],
        "curve": curve,
        **noted,
    }


def _supervised(model: nn.Module, run: Run) -> tuple[dict[str, float], list[tuple[int, float, float]], float]:
    """Train on labelled batches; return the scores, the curve and the CPU seconds."""
    begin = time.process_time()
    steps = len(orders(run, torch.Generator())) // epochs(run)
    change = changes.CHANGES[run["change"]](model, steps) if "change" in run else changes.Change(model)
    curve = train(model, run, change)
    seconds = time.process_time() - begin
    logits = change.outputs(model.eval())
    return (text_scores(logits) if run["task"] == "text" else image_scores(logits, images_of(run))), curve, seconds


def prepared(run: Run) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model as training begins, and what was computed to make it."""
    model = build(run["task"], run["seed"], run.get("dropout", 0.0))
    if run["side"] == "full":
        return begin_as_scaffolded(model, run) if "scaffold" in run else model, {}
    options = {**changes.init(run.get("init")), **run.get("scaffold", {})}
    rank: Any = run["rank"]
    noted: dict[str, Any] = {}
    if rank == "by gradient":
        rank = noted["ranks"] = changes.ranks_by_gradient(
            build(run["task"], run["seed"]), *(part[:512] for part in images_of(run).train), run["seed"], 8
        )
    if run["side"] == "lora":
        options["beta"] = 1.0
    model = lottapack.scaffold(model, seed=run["seed"], rank=rank, **options)
    if run["side"] == "lora":
        lottapack.nn.put_backbone_(model, pretrained(run["task"]))
    if "zero" in run.get("change", ""):
        lottapack.nn.zero_backbone_(model)
    if "start" in run:
        changes.start_with_inputs(model, images_of(run).train[0][:2000])
    return model, noted


@torch.no_grad()
def begin_as_scaffolded(model: nn.Module, run: Run) -> nn.Module:
    """Give a plain model the weights that a scaffolded one has before training."""
    plain = build(run["task"], run["seed"], run.get("dropout", 0.0))
    other = lottapack.scaffold(plain, seed=run["seed"], rank=1, **run["scaffold"])
    drawn = dict(other.named_parameters())
    drawn |= {f"{n}.weight": m.backbone for n, m in other.named_modules() if isinstance(m, lottapack.nn.AdapterLayer)}
    for name, parameter in model.named_parameters():
        parameter.copy_(drawn[name])
    return model


def train(model: nn.Module, run: Run, change: "changes.Change") -> list[tuple[int, float, float]]:
    """AdamW with a cosine schedule. Return step, CPU seconds, and loss in nats a byte of the text to tune with."""
    b, rest = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (b if name.endswith("lora_B") else rest).append(parameter)
    groups = [{"params": rest}, {"params": b, "lr": run["lr"] * run.get("ratio", 1)}] if b else [{"params": rest}]
    optimizer = torch.optim.AdamW(groups, lr=run["lr"], weight_decay=run.get("decay", DECAY), fused=True)
    draws = torch.Generator().manual_seed(run["seed"])
    todo = orders(run, draws)
    warm = 50 if run["task"] == "text" else 0
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warm)
            if step < warm
            else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / (len(todo) - warm))
        ),
    )
    curve, spent = [], 0.0
    for step, order in enumerate(todo):
        model.train()
        begin = time.process_time()
        change.before(step, step / len(todo))
        optimizer.zero_grad()
        loss_of(model, run["task"], batch(run, order, draws), run.get("smoothing", 0.0)).backward()
        if run["task"] == "text":
            nn.utils.clip_grad_norm_([*rest, *b], 1.0)
        optimizer.step()
        schedule.step()
        spent += time.process_time() - begin
        if run["task"] == "text" and (step + 1) % 100 == 0:
            value = text_loss(model.eval(), data.python_source().tune, 8)
            curve.append((step + 1, round(spent, 2), round(value, 4)))
    return curve


def images_of(run: Run) -> data.Images:
    """The images of a run, as it has them prepared."""
    return data.images(run["task"], run.get("upright", False))


def epochs(run: Run) -> int:
    """How often a run sees its images; 1 for text, which it draws at random."""
    return run.get("epochs", EPOCHS.get(run["task"], 1))


def orders(run: Run, draws: torch.Generator) -> list[Tensor]:
    """Return the numbers of the images, or of the first bytes of the windows, of all batches of a run."""
    if run["task"] == "text":
        last = len(data.python_source().train) - WINDOW - 1
        return [*torch.randint(last, (run.get("steps", STEPS), TEXT_BATCH), generator=draws)]
    count, size = len(images_of(run).train[1]), BATCH[run["task"]]
    return [part for _ in range(epochs(run)) for part in torch.randperm(count, generator=draws).split(size)]


def batch(run: Run, order: Tensor, draws: torch.Generator) -> tuple[Tensor, ...]:
    """Return a batch: windows of text, or images and labels."""
    if run["task"] == "text":
        source = data.python_source().train
        return (torch.stack([source[start : start + WINDOW] for start in order.tolist()]).long(),)
    images, labels = images_of(run).train
    chosen = images[order]
    return (data.moved(chosen, draws, run["moved"]) if run.get("moved") else chosen), labels[order]


def loss_of(model: nn.Module, task: str, batch: tuple[Tensor, ...], smoothing: float = 0.0) -> Tensor:
    """The loss that training lowers: the mean cross-entropy, in nats."""
    if task == "text":
        return model(input_ids=batch[0], labels=batch[0]).loss
    return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=smoothing)


@torch.no_grad()
def image_scores(logits: Callable[[Tensor], Tensor], images: data.Images) -> dict[str, float]:
    """Right answers in per cent, of the images to tune with and of those to test."""
    return {
        name: round(100 * float((logits(part[0]).argmax(1) == part[1]).float().mean()), 3)
        for name, part in (("tune", images.tune), ("test", images.test))
    }


@torch.no_grad()
def text_scores(model: Callable[..., Any]) -> dict[str, float]:
    """Nats a byte, of 32 kB of the text to tune with, and of 128 kB of that to test."""
    text = data.python_source()
    return {"tune": round(text_loss(model, text.tune, 32), 4), "test": round(text_loss(model, text.test, 128), 4)}


@torch.no_grad()
def text_loss(model: Callable[..., Any], text: Tensor, batches: int) -> float:
    """Mean loss over evenly spaced windows."""
    starts = torch.linspace(0, len(text) - WINDOW - 1, batches * TEXT_BATCH).long().split(TEXT_BATCH)
    losses = []
    for part in starts:
        rows = torch.stack([text[start : start + WINDOW] for start in part.tolist()]).long()
        losses.append(float(model(input_ids=rows, labels=rows).loss))
    return sum(losses) / len(losses)


def size(model: nn.Module, run: Run) -> int:
    """Bytes of the pack, or of the checkpoint of a model that was trained in full."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lotta.safetensors"
        if run["side"] == "full":
            save_file({name: p.detach().clone() for name, p in model.named_parameters()}, path)
        elif run["side"] == "lora" or run.get("change", "").startswith(("redraw", "zero")):
            return 0  # its backbone does not follow from a seed
        else:
            lottapack.pack(model, path)
        return path.stat().st_size


_PRETRAINED: dict[str, dict[str, Tensor]] = {}


def pretrained(task: str) -> dict[str, Tensor]:
    """The weights of a model trained in full on other data: MNIST for digits, digits for MNIST, other text for text."""
    if task not in _PRETRAINED:
        torch.manual_seed(1000)
        model = build(task, 1000)
        if task == "text":
            source = data.other_text()
            todo = [
                (torch.stack([source[s : s + WINDOW] for s in row]).long(),)
                for row in torch.randint(len(source) - WINDOW - 1, (STEPS, TEXT_BATCH)).tolist()
            ]
        else:
            images, labels = data.other_images(task)
            todo = [
                (images[batch], labels[batch])
                for _ in range(EPOCHS[task])
                for batch in torch.randperm(len(labels)).split(BATCH[task])
            ]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(todo))
        for batch in todo:
            optimizer.zero_grad()
            loss_of(model, task, batch).backward()
            optimizer.step()
            schedule.step()
        _PRETRAINED[task] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return _PRETRAINED[task]
