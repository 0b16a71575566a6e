"""Run every benchmark in turn and print the tables (``make bench``)."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    "bench_rng.py",
    "bench_arm64.py",
    "bench_start.py",
    "bench_load.py",
    "bench_virtual.py",
    "bench_gpu.py",
    "bench_cli.py",
    "bench_registry.py",
    "bench_serve.py",
)


def main() -> None:
    """Run each in its own process, so that none warms the memory of the next."""
    for script in SCRIPTS:
        print(f"\n=== {script}", flush=True)
        subprocess.run([sys.executable, str(Path(__file__).with_name(script))], check=True)
    print("\n=== lottapack report --table", flush=True)
    subprocess.run([sys.executable, "-m", "lottapack_cli", "report", "--table", "--scale", "30M"], check=True)


if __name__ == "__main__":
    main()
