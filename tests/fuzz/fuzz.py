"""Coverage-guided fuzzing of the container and the descriptor, with the vectors as corpus.

python tests/fuzz/fuzz.py SECONDS [--build]

Prints a line of figures at the end. An input after which anything but a LottapackError came out, or that took over a
second, is kept as ``crash-*`` in .fuzz/, and the exit code is 1. ``--build``: also build the skeleton of what is
accepted (imports torch, and is slower).
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VECTORS = ROOT / "spec" / "v1" / "vectors" / "files"
WORK = ROOT / ".fuzz"


def child(arguments: list[str], build: bool) -> None:
    """The fuzzing process: libFuzzer, Python coverage of lottapack, and the mutations of ``mutation.py``."""
    import atheris

    with atheris.instrument_imports(include=["lottapack"], enable_loader_override=False):
        import target
    from mutation import mutated

    builder = None
    if build:
        from lottapack import arch
        from lottapack.format.packfile import open_pack

        for path in (VECTORS / "valid").glob("*gpt2*.safetensors"):  # what is imported amid fuzzing takes too long
            with open_pack(path) as pack:
                arch.build(pack.descriptor.architecture)

        def builder(descriptor: object) -> object:
            return arch.build(descriptor.architecture)  # type: ignore[attr-defined]

    path = target.scratch(WORK)

    def one_input(data: bytes) -> None:
        target.one(data, path, builder)

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        if seed % 4:
            made = mutated(data, seed)
            if made is not None and len(made) <= most:
                return made
        return bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], *arguments], one_input, custom_mutator=mutator)
    try:
        atheris.Fuzz()
    finally:
        path.unlink(missing_ok=True)


def main() -> int:
    """Run the child for a time and count; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=int)
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.build)
        return 0
    corpus = WORK / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for vector in VECTORS.glob("*/*.safetensors"):
        if vector.stat().st_size < 100_000:
            shutil.copy(vector, corpus / vector.name)
    begin = time.monotonic()
    line = [sys.executable, __file__, str(options.seconds), *(["--build"] if options.build else []), "--child"]
    line += [
        str(corpus), f"-max_total_time={options.seconds}", f"-artifact_prefix={WORK}/", "-print_final_stats=1",
        "-max_len=100000", "-timeout=5", "-rss_limit_mb=2048", "-verbosity=0",
    ]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=options.seconds + 300, check=False)
    counted = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
    count = int(counted[1]) if counted else 0
    kept = len(list(corpus.iterdir()))
    crashes = sorted(path.name for path in WORK.glob("*-*") if path.is_file())
    print(
        f"{count:,} executions in {time.monotonic() - begin:.0f} s, {kept:,} inputs in the corpus, "
        f"exit {done.returncode}, {len(crashes)} crashes {' '.join(crashes)}".rstrip(),
        flush=True,
    )
    if done.returncode or not count or crashes:
        print(done.stdout[-4000:], done.stderr[-4000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
