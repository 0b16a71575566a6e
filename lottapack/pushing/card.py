"""The model card of a pack: written once, then updated between its two markers only."""

import json
from os import PathLike

from lottapack.pushing import front_matter
from lottapack.registry.records import PushOptions
from lottapack.reports.inspection import Summary, inspect
from lottapack.reports.reporting import report

BEGIN, END = "<!-- lottapack:begin -->", "<!-- lottapack:end -->"
_ABOUT = "https://arxiv.org/abs/2604.08749"


def card(pack: str | PathLike[str], repo: str, sha256: str, options: PushOptions, old: str | None = None) -> str:
    """The card of a pack whose file has that SHA-256: a new one, or the old one brought up to date.

    Of a card that a person has edited only what stands between the markers changes, and missing keys are added to its
    front matter; what the push was asked to say (license, datasets, metrics) replaces what is there. A card without
    the markers is a person's own, and left as it is.
    """
    block, body = front_matter.split(old or "")
    made = f"{BEGIN}\n{_facts(pack, repo, sha256)}\n{END}"
    if not body.strip():
        body = f"\n# {repo.rpartition('/')[2]}\n\n{made}\n"
    elif body.count(BEGIN) == body.count(END) == 1 and body.index(BEGIN) < body.index(END):
        made = made.replace("\n", "\r\n") if "\r\n" in body else made
        body = body[: body.index(BEGIN)] + made + body[body.index(END) + len(END) :]
    else:
        return old or ""
    asked = {"license": options.license, "datasets": options.datasets, "metrics": options.metrics}
    wanted: dict[str, front_matter.Value] = {key: value for key, value in asked.items() if value}
    defaults: dict[str, front_matter.Value] = {"library_name": "lottapack", "tags": _tags(inspect(pack))}
    merged = front_matter.merged(block or "", wanted, defaults)
    # Front matter that is no YAML stays: the registry will say what is wrong with it.
    return front_matter.join(block or "" if merged is None else merged, body)


def _tags(summary: Summary) -> list[str]:
    family = {"transformers": ["transformers"]}.get(summary.family, ["pytorch"])
    return ["lottapack", "lora", "random-backbone", *family]


def _scaffolds(summary: Summary) -> str:
    """A row of the table, or nothing."""
    named = ", ".join(f"`{name}` (seed {int(seed, 16)})" for name, seed in summary.scaffolds.items())
    return f"| more scaffolds | {named}: `load(..., scaffold=NAME)` |\n" if named else ""


def _tokenizer(summary: Summary, repo: str) -> str:
    """How the files beside the model are had, or nothing."""
    if not summary.files:
        return ""
    named = ", ".join(f"`{name}`" for name in summary.files)
    if summary.family != "transformers":
        return f"\nIt carries {named}: `lottapack export {summary.path.name} -o FOLDER --format files`.\n"
    return f"""
It carries {named}. With these in one folder, transformers needs nothing else:

```console
$ lottapack pull {repo} --export FOLDER
```

```python
from transformers import pipeline

pipe = pipeline("TASK", "FOLDER")  # such as text-generation
```
"""


def _facts(pack: str | PathLike[str], repo: str, sha256: str) -> str:
    summary, sizes = inspect(pack), report(pack)
    share = f", {summary.trained:,} of them trained ({summary.trained / summary.numel:.2%})" if summary.numel else ""
    drawn = sorted({entry.distribution for entry in summary.parameters if entry.distribution})
    trust = f", allow=[{', '.join(json.dumps(name) for name in summary.allow)}]" if summary.allow else ""
    rows = "\n".join(
        f"| {'full checkpoint, ' if number else ''}{form.label} | {form.size:,} | {form.ratio:.3g} |"
        for number, form in enumerate(sizes.forms)
    )
    return f"""\
A [LottaLoRA]({_ABOUT}) model as one small file: a random, frozen backbone that is generated again from its seed, bit
for bit the same on any device, and what was learned on it.

| form | bytes | times this pack |
| --- | ---: | ---: |
{rows}

| | |
| --- | --- |
| architecture | `{summary.architecture}` ({summary.family}) |
| parameters | {summary.numel:,}{share} |
| backbone | `{summary.rng}`, seed {int(summary.seed, 16)}, {", ".join(f"`{name}`" for name in drawn) or "none"} |
{_scaffolds(summary)}| file | `{summary.path.name}`, format {summary.format_version} |
| SHA-256 | `{sha256}` |

```python
import lottapack

model = lottapack.load("{repo}"{trust})  # pulls, checks every hash, generates the backbone
```
{_tokenizer(summary, repo)}
Text between these two markers is written anew by each push; all other text is yours."""
