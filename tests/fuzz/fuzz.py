"""Coverage-guided fuzzing of what reads a stranger's bytes.

python tests/fuzz/fuzz.py SECONDS [--target NAME]...

A target is a module in ``targets/``; without ``--target`` all run in turn and share the time. Prints a line of figures
for each. An input after which anything but a LottapackError came out, or that took too long, is kept as ``crash-*`` in
``.fuzz/NAME/``, and the exit code is 1.

A target has ``one(data: bytes) -> None``, which raises if and only if the input shows a fault, and
``seeds() -> Iterable[bytes]``, the first inputs. It may have ``mutated(data: bytes, seed: int) -> bytes | None``,
changes that know its structure (None: there is nothing to change); ``prepare()``, for what takes long the first time;
and ``TIMEOUT``, in seconds, and ``RSS_MB``, where 10 and 2,048 are too little. Whatever it imports of lottapack is
instrumented.
"""

import argparse
import hashlib
import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".fuzz"
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("*.py"))
MAX_LEN = 100_000


def child(name: str, arguments: list[str]) -> None:
    """The fuzzing process: libFuzzer, Python coverage of lottapack, and the target's own mutations."""
    import atheris

    with atheris.instrument_imports(include=["lottapack", "lottapack_serve"], enable_loader_override=False):
        target = importlib.import_module(f"targets.{name}")
    getattr(target, "prepare", lambda: None)()
    own = getattr(target, "mutated", None)

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        if own is not None and seed % 4:
            made = own(data, seed)
            if made is not None and len(made) <= most:
                return bytes(made)
        return bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], *arguments], target.one, custom_mutator=mutator)
    atheris.Fuzz()


def fuzz(name: str, seconds: int) -> bool:
    """Run one target in a process of its own and count; whether all went well."""
    work = WORK / name
    corpus = work / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    target = importlib.import_module(f"targets.{name}")
    for data in target.seeds():
        (corpus / hashlib.sha256(data).hexdigest()[:40]).write_bytes(data)
    begin = time.monotonic()
    line = [
        sys.executable, __file__, str(seconds), "--target", name, "--child", str(corpus),
        f"-max_total_time={seconds}", f"-artifact_prefix={work}/", "-print_final_stats=1",
        f"-max_len={MAX_LEN}", f"-timeout={getattr(target, 'TIMEOUT', 10)}",
        f"-report_slow_units={getattr(target, 'TIMEOUT', 10)}", f"-rss_limit_mb={getattr(target, 'RSS_MB', 2048)}",
        "-verbosity=0",
    ]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=seconds + 300, check=False)
    counted = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
    count = int(counted[1]) if counted else 0
    kept = len(list(corpus.iterdir()))
    crashes = sorted(path.name for path in work.glob("*-*") if path.is_file())
    print(
        f"{name}: {count:,} executions in {time.monotonic() - begin:.0f} s, {kept:,} inputs in the corpus, "
        f"exit {done.returncode}, {len(crashes)} crashes {' '.join(crashes)}".rstrip(),
        flush=True,
    )
    if done.returncode or not count or crashes:
        print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
        return False
    return True


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=int, help="for all targets together")
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be given again; by default all")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.target or TARGETS
    if options.child is not None:
        child(names[0], options.child)
        return 0
    passed = [fuzz(name, max(1, options.seconds // len(names))) for name in names]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
