"""The model card of a pack: written once, later only updated between two markers."""

import json
import re
from collections.abc import Sequence
from os import PathLike

from lottapack.format.files import TOKENIZER
from lottapack.format.results import Result
from lottapack.pushing import front_matter
from lottapack.pushing.hub_index import model_index
from lottapack.registry.records import PushOptions
from lottapack.reports.inspection import Summary, inspect
from lottapack.reports.reporting import report

BEGIN, END = "<!-- lottapack:begin -->", "<!-- lottapack:end -->"
_ABOUT = "https://arxiv.org/abs/2604.08749"


def card(pack: str | PathLike[str], repo: str, sha256: str, options: PushOptions, old: str | None = None) -> str:
    """Return the card of a pack whose file has that SHA-256: a new one, or the old one updated.

    In a card that a person has edited, only the text between the markers changes, and missing keys are added to its
    front matter; the arguments of the push (license, datasets, metrics, results) replace existing values. A
    card without the markers belongs to a person and stays as it is.
    """
    block, body = front_matter.split(old or "")
    made = f"{BEGIN}\n{_facts(pack, repo, sha256, options.results, body)}{END}"
    if not body.strip():
        body = f"\n# {repo.rpartition('/')[2]}\n\n{made}\n"
    elif body.count(BEGIN) == body.count(END) == 1 and body.index(BEGIN) < body.index(END):
        made = made.replace("\n", "\r\n") if "\r\n" in body else made
        body = body[: body.index(BEGIN)] + made + body[body.index(END) + len(END) :]
    else:
        return old or ""
    asked = {"license": options.license, "datasets": options.datasets, "metrics": options.metrics}
    wanted: dict[str, front_matter.Value] = {key: value for key, value in asked.items() if value}
    summary = inspect(pack)
    if summary.results:
        wanted["model-index"] = model_index(repo, summary.results)
    task: dict[str, front_matter.Value] = {"pipeline_tag": found} if (found := _task(summary)) else {}
    defaults: dict[str, front_matter.Value] = {"library_name": "lottapack", **task, "tags": _tags(summary)}
    merged = front_matter.merged(block or "", wanted, defaults)
    # Front matter that is not YAML stays; the registry will say what is wrong with it.
    return front_matter.join(block or "" if merged is None else merged, body)


def _scores(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return rows for the table of the card's text, with what the model-index has no place for."""
    rows = []
    for one in results:
        where = f"{one.metric}, {one.dataset}" + ("" if one.split is None else f" ({one.split})")
        rank = "" if one.rank is None else f", rank {one.rank}"
        spread = "" if one.deviation is None else f" ± {one.deviation:g}"
        seeds = "" if one.seeds is None else f" ({one.seeds} seeds)"
        rows.append((where + rank, f"{one.score:g}{spread}{seeds}"))
        rows += [
            (f"{where}, {label}", f"{value:g}")
            for label, value in (("full training", one.full), ("chance", one.chance))
            if value is not None
        ]
    return rows


def _tags(summary: Summary) -> list[str]:
    family = {"transformers": ["transformers"]}.get(summary.family, ["pytorch"])
    return ["lottapack", "lora", "random-backbone", *family]


def _scaffolds(summary: Summary) -> str:
    """Return a row of the table, or an empty text."""
    named = ", ".join(f"`{name}` (seed {int(seed, 16)})" for name, seed in summary.scaffolds.items())
    return f"| more scaffolds | {named}: `load(..., scaffold=NAME)` |\n" if named else ""


_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
}
"""The Hub's name of the task of a transformers class, by the suffix of the class's name."""


def _task(summary: Summary) -> str | None:
    """Return the ``pipeline_tag`` if the class's name determines it."""
    if summary.family != "transformers":
        return None
    return next((task for end, task in _TASKS.items() if summary.architecture.endswith(end)), None)


def _generate(summary: Summary, repo: str) -> str:
    """Return how to generate text with a language model, or an empty text."""
    if _task(summary) != "text-generation":
        return ""
    begin = '--prompt "Once upon a time"' if set(TOKENIZER) & summary.files.keys() else "--tokens 1,2,3"
    return f"""
Generate text:

```console
$ lottapack run {repo} {begin} --new 50 --temperature 0.8
```
"""


def _files(summary: Summary, repo: str) -> str:
    """Return how to get the files beside the model, or an empty text."""
    if not summary.files:
        return ""
    named = ", ".join(f"`{name}`" for name in summary.files)
    if summary.family != "transformers":
        return f"\nIt contains {named}: `lottapack export {summary.path.name} -o FOLDER --format files`.\n"
    return f"""
It contains {named}. With these in one folder, transformers needs nothing else:

```console
$ lottapack pull {repo} --export FOLDER
```

```python
from transformers import pipeline

pipe = pipeline("{_task(summary) or "TASK"}", "FOLDER")
```
"""


def _results(results: Sequence[tuple[str, str]], old: str, sha256: str) -> str:
    """Return a table of the model's results; without new ones, that of the old card if it belongs to the same file."""
    if not results:
        kept = _RESULTS.search(old.replace("\r\n", "\n")) if sha256 in old else None
        return kept[0] if kept else ""
    rows = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in results)
    return f"| result | value |\n| --- | ---: |\n{rows}\n\n"


_RESULTS = re.compile(r"^\| result \| value \|\n\| --- \| ---: \|\n(?:\|.*\|\n)+\n", re.MULTILINE)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _facts(pack: str | PathLike[str], repo: str, sha256: str, results: Sequence[tuple[str, str]], old: str) -> str:
    summary, sizes = inspect(pack), report(pack)
    share = f", {summary.trained:,} of them trained ({summary.trained / summary.numel:.2%})" if summary.numel else ""
    drawn = sorted({entry.distribution for entry in summary.parameters if entry.distribution})
    trust = f", allow=[{', '.join(json.dumps(name) for name in summary.allow)}]" if summary.allow else ""
    rows = "\n".join(
        f"| {'full checkpoint, ' if number else ''}{form.label} | {form.size:,} | {form.ratio:.3g} |"
        for number, form in enumerate(sizes.forms)
    )
    return f"""\
A [LottaLoRA]({_ABOUT}) model as one small file: a random, frozen backbone that is generated from its seed, with the
same bits on any device, and what was learned on it.

{_results([*_scores(summary.results), *results], old, sha256)}| form | bytes | times this pack |
| --- | ---: | ---: |
{rows}

| property | value |
| --- | --- |
| architecture | `{summary.architecture}` ({summary.family}) |
| parameters | {summary.numel:,}{share} |
| backbone | `{summary.rng}`, seed {int(summary.seed, 16)}, {", ".join(f"`{name}`" for name in drawn) or "none"} |
{_scaffolds(summary)}| file | `{summary.path.name}`, format {summary.format_version} |
| SHA-256 | `{sha256}` |

```python
import lottapack

model = lottapack.load("{repo}"{trust})  # pulls the file, checks its SHA-256, generates the backbone
```
{_generate(summary, repo)}{_files(summary, repo)}"""
