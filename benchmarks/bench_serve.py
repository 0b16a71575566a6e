"""Measure the memory and throughput of ``lottapack serve`` while eight clients push 100 MB each.

``python benchmarks/bench_serve.py [--clients N] [--megabytes N] [--json]``

The server and each client run in their own process. A client is the stock huggingface_hub with its own ``HF_HOME``; all
commit at the same moment. The memory is the server's peak resident set, as the kernel counts it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL = 200
"""Megabytes of memory."""

CLIENT = """
import os, sys
from huggingface_hub import CommitOperationAdd, HfApi
number, size = int(sys.argv[1]), int(sys.argv[2])
api = HfApi()
repo = api.create_repo(f"bench/{number}", exist_ok=True).repo_id
operation = CommitOperationAdd("model.bin", os.urandom(size))
print("ready", flush=True)
sys.stdin.readline()
api.create_commit(repo, [operation], commit_message="push")
"""


def peak(process: int) -> int:
    """Return the peak resident set of a process, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell the memory of a process")


def measure(clients: int, size: int) -> dict[str, float]:
    """Return the peak memory before and after the pushes in bytes, and their time in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lottapack_cli", "serve", "--root", f"{folder}/registry", "--port", "0"]
        server = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
        pushes: list[subprocess.Popen[str]] = []
        try:
            assert server.stdout
            url = json.loads(server.stdout.readline())["url"]
            for number in range(clients):
                environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": f"{folder}/home{number}"}
                environment.pop("HF_HUB_OFFLINE", None)
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
                arguments = [sys.executable, "-c", CLIENT, str(number), str(size)]
                pushes.append(subprocess.Popen(arguments, env=environment, **pipes))
            for push in pushes:
                assert push.stdout and push.stdout.readline() == "ready\n"
            idle = peak(server.pid)
            start = time.perf_counter()
            for push in pushes:
                push.communicate("go\n", timeout=600)
            seconds = time.perf_counter() - start
            if any(push.returncode for push in pushes):
                raise RuntimeError("a push failed")
            return {"idle": idle, "peak": peak(server.pid), "seconds": seconds}
        finally:
            for process in (*pushes, server):
                process.kill()
                process.wait()


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.clients, options.megabytes * 10**6)
    if options.json:
        print(json.dumps(result))
        return
    rate = options.clients * options.megabytes / result["seconds"]
    print(f"lottapack serve, {options.clients} clients push {options.megabytes} MB each at the same time")
    print(f"  memory before    {result['idle'] / 1e6:7.1f} MB")
    print(f"  memory at most   {result['peak'] / 1e6:7.1f} MB   (goal: under {GOAL} MB)")
    print(f"  time             {result['seconds']:7.2f} s   ({rate:.0f} MB/s together, clients included)")


if __name__ == "__main__":
    main()
