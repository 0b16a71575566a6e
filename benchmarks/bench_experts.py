"""Measure a mixture of experts whose weights do not fit into memory: plan, pack, verify, and stream it in shards.

python benchmarks/bench_experts.py [LAYERS] [STREAMED]
python benchmarks/bench_experts.py layer

A Mixtral in bfloat16: width 6,144, 8 experts of 16,384. LAYERS: 40 by default, which are 100 billion parameters.
STREAMED: how many of its layers are merged and written in shards of 5 GB, by default all; each shard is discarded.
Adapters of rank 8 are drawn and not trained. Each step has a process of its own.

``layer``: one layer's experts instead, materialised and virtual, in float32 with two tokens. Width 1,024, 8 experts of
3,584, two a token: 88 million weights, of which the tokens use three experts. Processor time of one thread.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PLAN = """
sizes = {{"vocab_size": 32000, "hidden_size": 6144, "intermediate_size": 16384, "num_local_experts": 8}}
heads = {{"num_attention_heads": 48, "num_key_value_heads": 8, "num_hidden_layers": {layers}}}
torch.set_default_dtype(torch.bfloat16)
with torch.device("meta"):
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes, **heads))
size = sum(parameter.numel() for parameter in model.parameters())
state = lottapack.scaffold(model, seed=7, rank=8).state_dict()
random = torch.Generator("cpu").manual_seed(1)
for name, tensor in state.items():
    if tensor.is_meta:
        near = 0.915 if name.endswith("beta") else 1.0 if "norm" in name else 0.0
        state[name] = torch.empty_like(tensor, device="cpu").normal_(near, 0.02, generator=random)
torch.save(state, {checkpoint!r})
"""
PACK = """
size = lottapack.pack({checkpoint!r}, {pack!r}).size
"""
VERIFY = """
assert lottapack.verify({pack!r}, max_bytes=1 << 40).ok
size = 0
"""
STREAM = """
import io
from lottapack.exporting import export
from lottapack.folders.shards import bytes_of, split
from lottapack.format.packfile import open_pack
class Sink(io.RawIOBase):
    def write(self, data):
        return len(data)
size = 0
with open_pack({pack!r}) as pack:
    first = [f"model.layers.{{number}}." for number in range({streamed})]
    tensors = [one for one in export._tensors(pack, None, with_ties=False) if one[0].startswith(tuple(first))]
    writer = export._Writer(pack, export._array_pieces, 0, None)
    for placed in split(tensors, bytes_of("5GB")).values():
        writer.write(Sink(), placed)
    size = writer.done
"""
MEASURED = """
import json, resource, time
import torch, transformers, lottapack, lottapack.packing.pack
from transformers.models.mixtral import modeling_mixtral
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun, used = time.perf_counter(), time.process_time()
{code}
seconds, cpu = time.perf_counter() - begun, time.process_time() - used
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"seconds": seconds, "cpu": cpu, "size": size, "peak": peak * 1024, "imports": before * 1024}}))
"""

LAYER = """
import gc, json, statistics, time
import torch, transformers, lottapack
torch.set_num_threads(1)
way, table, backbone, training = {way!r}, {table!r}, {backbone!r}, {training}
def build(hidden, inner):
    sizes = {{"vocab_size": 32, "hidden_size": hidden, "intermediate_size": inner, "num_local_experts": 8}}
    heads = {{"num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 1}}
    model = transformers.MixtralModel(transformers.MixtralConfig(**sizes, **heads))
    model.set_experts_implementation(way)
    chosen = backbone if backbone == "materialised" else {{"*.experts.*": backbone}}
    return lottapack.scaffold(model, seed=7, rank=8, distribution=table, backbone=chosen).layers[0].mlp.experts
def run(model, hidden):
    random = torch.Generator().manual_seed(1)
    x = torch.randn(2, hidden, generator=random, requires_grad=training)
    with torch.set_grad_enabled(training):
        out = model(x, torch.tensor([[1, 6], [3, 6]]), torch.full((2, 2), 0.5))
        if training:
            out.square().sum().backward()
            model.zero_grad()
def resident(field):
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return int(lines[field].split()[0]) * 1024
run(build(64, 64), 64)
before = resident("VmRSS")
model = build(1024, 3584)
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew, without the plain model's
times = []
for _ in range(8):
    begun = time.process_time()
    run(model, 1024)
    times.append(time.process_time() - begun)
print(json.dumps([resident("VmHWM") - before, statistics.median(times[1:])]))
"""


def layer() -> None:
    """Measure one layer's experts, and print."""
    print("pass          experts     table     backbone       peak above imports  processor time")
    for training in (False, True):
        for way in ("eager", "grouped_mm", "batched_mm"):
            for table, backbone in (("sign1", "materialised"), ("sign1", "virtual"), ("normal16", "blocks")):
                code = LAYER.format(way=way, table=table, backbone=backbone, training=training)
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    sys.exit(done.stderr)
                peak, seconds = json.loads(done.stdout.splitlines()[-1])
                what = "training" if training else "inference"
                row = f"{what:13} {way:11} {table:9} {backbone:14}"
                print(f"{row} {peak / 1e6:10.0f} MB {1000 * seconds:15.0f} ms", flush=True)


def measured(what: str, code: str, unit: str) -> None:
    """Run a step in a new process, and print what it took."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURED.format(code=code)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{what}: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    size = f"{found['size'] / 1e9:8.2f} {unit}" if found["size"] else ""
    memory = f"peak {found['peak'] / 1e9:.2f} GB ({found['imports'] / 1e9:.2f} for imports)"
    print(f"{what:24} {found['seconds']:8.1f} s, CPU {found['cpu']:8.1f} s  {size:30} {memory}", flush=True)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] == ["layer"]:
        return layer()
    layers = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    streamed = int(sys.argv[2]) if len(sys.argv) > 2 else layers
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, pack = str(Path(folder) / "checkpoint.pt"), str(Path(folder) / "model.lotta.safetensors")
        names = {"layers": layers, "streamed": streamed, "checkpoint": checkpoint, "pack": pack}
        measured("plan on meta, adapters", PLAN.format(**names), "billion parameters")
        measured("pack", PACK.format(**names), "GB")
        measured("verify", VERIFY.format(**names), "GB")
        measured(f"stream {streamed} layers", STREAM.format(**names), "GB written")
    return None


if __name__ == "__main__":
    main()
