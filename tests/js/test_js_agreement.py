"""Compare the two implementations: weights of random models, and verdicts on random faults."""

import hashlib
import json
import random
from pathlib import Path

import hostile_files
import numpy as np
import pytest
import torch
from every_hash import changes
from extent import extent
from js_runs import JS, SUFFIX, lines, node, reports
from torch import nn

import lottapack
from lottapack import rng
from lottapack.errors import FormatError, IntegrityError
from lottapack.format import canonical
from lottapack.nn import recipe_of

VALID = Path(__file__).parents[2] / "spec" / "v1" / "vectors" / "files" / "valid"
PLACES = {"ContainerError": "container", "DescriptorError": "descriptor", "AgreementError": "agreement"}
PLACES["IntegrityError"] = "contents"

OWN = rng.custom("steps4", (np.arange(16, dtype=np.float32) - 7.5) / 4)
LARGE = rng.custom("random16", np.random.default_rng(1).standard_cauchy(65536).astype(np.float32))
TABLES = [*rng.BUILTIN, OWN, LARGE]
pytestmark = pytest.mark.filterwarnings("ignore::lottapack.errors.UnusedOptionWarning")
DTYPES = ["float32", "bfloat16", "float16"]
CODINGS = (
    None,
    "planes-zlib",
    "trellis8@0.05",
    {"*": "int8-block64"},
    {"embeddings": "normal4-block64", "*": "planes-zlib"},
)


def random_model(chance: random.Random, dtype: torch.dtype) -> nn.Sequential:
    """Linear layers, convolutions and an embedding of random sizes."""

    def size() -> int:
        return chance.randint(2, 90)

    channels = 2 * chance.randint(2, 6)
    layers = [nn.Embedding(size(), size()), nn.BatchNorm1d(size())]
    layers += [nn.Linear(size(), size(), bias=chance.random() < 0.5) for _ in range(4)]
    layers += [nn.Conv2d(channels, 2 * chance.randint(1, 9), chance.randint(1, 3), groups=2)]
    layers += [nn.Conv1d(size(), size(), chance.randint(1, 4)), nn.Linear(size(), 3)]
    chance.shuffle(layers)
    return nn.Sequential(*layers).to(dtype)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Write a pack for each table and dtype; return paths and the digests of plain weights by scaffold."""
    folder = tmp_path_factory.mktemp("packs")
    chance = random.Random(11)
    made = {}
    for table in TABLES:
        for dtype in DTYPES:
            name = f"{table if isinstance(table, str) else table.id}-{dtype}"
            model = random_model(chance, getattr(torch, dtype))
            scaling = chance.choice(["lora", "rslora"])
            others = {"task-b": chance.getrandbits(64), "0": chance.getrandbits(64)}
            others = chance.choice([None, {"task-b": others["task-b"]}, others])
            lottapack.scaffold(
                model,
                seed=chance.getrandbits(64),
                scaffolds=others,
                rank=chance.randint(1, 2),
                alpha=chance.choice([None, 3.0]),
                scaling=scaling,
                distribution=table,
                scale=2.0**-8 if table is LARGE else None,
                beta=chance.choice(["learned", 1.0]),
                train=chance.choice([None, "heads", ["norms", "biases"]]),
            )
            torch.manual_seed(chance.getrandbits(32))
            for parameter in model.parameters():
                if parameter.requires_grad:
                    nn.init.normal_(parameter)
            path = folder / f"{name}{SUFFIX}"
            narrow = chance.choice([None, "float16", "bfloat16"]) if dtype == "float32" else None
            coding = CODINGS[len(made) % len(CODINGS)]
            stored = {getattr(entry, "group", None) for entry in recipe_of(model).parameters.values()}
            if isinstance(coding, dict) and "embeddings" in coding and "embedding" not in stored:
                coding = None  # an option that changes nothing is refused
            lottapack.pack(model, path, compression=lottapack.Compression(dtype=narrow, coding=coding))
            plain = folder / f"{name}.safetensors"
            due = {one: digests(lottapack.export(path, plain, scaffold=one)) for one in ("default", *(others or {}))}
            made[name] = path, due
    return made


def digests(exported: Path) -> dict[str, str]:
    """The SHA-256 of each tensor in a safetensors file."""
    whole = exported.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {
        name: hashlib.sha256(whole[start + begin : start + end]).hexdigest() for name, (begin, end) in spans.items()
    }


@pytest.fixture(scope="module")
def rebuilt(trained):
    """Return Node's result for each pack."""
    return dict(zip(trained, reports([path for path, _ in trained.values()], "--plain"), strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("table", [table if isinstance(table, str) else table.id for table in TABLES])
def test_node_rebuilds_the_same_weights(table, dtype, trained, rebuilt):
    path, due = trained[f"{table}-{dtype}"]
    found = rebuilt[f"{table}-{dtype}"]
    assert found["ok"], found
    assert {check["status"] for check in found["checks"]} == {"ok"}
    assert found["plain"] == due
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    generated = {name for name, entry in header_of(path)[1]["parameters"].items() if "fingerprint" in entry}
    checked = [check["where"] for check in found["checks"] if check["what"] == "fingerprint"]
    assert generated <= set(checked)
    assert len(checked) == len(set(checked)) == len(generated) * len(due)
    assert len(generated) > 1


def test_codings_beside_weights_that_torch_drew_or_that_were_recovered(tmp_path):
    """Node names what it cannot draw, and decodes the rest to the same bytes."""
    form = lottapack.Compression(dtype="float16", coding={"*": "planes-zlib", "embeddings": "int8-block64"})
    net = nn.Sequential(nn.Embedding(90, 24), nn.Linear(24, 50), nn.Linear(50, 40))
    torch.manual_seed(6)
    drawn = nn.Sequential(nn.Embedding(90, 24), nn.Linear(24, 50), nn.Linear(50, 40))
    with torch.no_grad():
        drawn[0].weight += 1
        drawn[2].weight += 1
    packs = [tmp_path / f"{name}{SUFFIX}" for name in ("torch", "trained", "merged")]
    with pytest.warns(lottapack.errors.BackboneChangedWarning):
        lottapack.pack(lottapack.recover.torch_cpu(drawn, seed=6, architecture=net), packs[0], compression=form)
    model = lottapack.scaffold(nn.Sequential(*drawn), seed=8, rank=2, train=["embeddings", "biases"])
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    lottapack.pack(model, packs[1])
    merged = lottapack.load(packs[1], merge=True)
    lottapack.pack(lottapack.recover.merged(merged, seed=8, max_rank=3, architecture=net), packs[2], compression=form)
    for pack, found in zip(packs[::2], reports(packs[::2]), strict=True):
        assert found["ok"], found
        entries = header_of(pack)[1]["parameters"]
        coded = {name: entry["coding"]["id"] for name, entry in entries.items() if "coding" in entry}
        assert coded["0.weight"] == "int8-block64"
        by_kind = {(check["what"], check["where"]): check["status"] for check in found["checks"]}
        assert {by_kind["coding", name] for name in coded} == {"ok"}
    left, recovered = reports(packs[::2], "--plain")
    assert left["plain"]["default"]["1.weight"] is None and left["plain"]["default"]["0.weight"] is not None
    assert left["unsupported"].startswith("needs torch: PyTorch")
    assert "unsupported" not in recovered
    assert recovered["plain"]["default"] == digests(lottapack.export(packs[2], tmp_path / "plain.safetensors"))


SUMMARISE = f"""
import {{ open }} from "{JS.as_uri()}/lottapack.js";
import {{ fromFile }} from "{JS.as_uri()}/node.js";
import {{ summarise }} from "{JS.as_uri()}/page/summary.js";
for (const path of process.argv.slice(1)) console.log(JSON.stringify(await summarise(await open(fromFile(path)))));
"""


def test_the_page_says_what_inspect_and_report_say():
    packs = sorted(VALID.glob(f"*{SUFFIX}"))
    summaries = lines(node("--input-type=module", "--eval", SUMMARISE, *packs))
    for pack, found in zip(packs, summaries, strict=True):
        due, report = lottapack.inspect(pack), lottapack.report(pack)
        assert found["architecture"] == {"family": due.family, "class": due.architecture}
        assert (found["numel"], found["trained"], found["fileSize"]) == (due.numel, due.trained, due.file_size)
        assert (found["rng"]["id"], found["rng"]["seed"]) == (due.rng, str(int(due.seed, 16)))
        assert dict(found["groups"]) == {label: size for label, size in report.by_group.items() if size}
        assert found["files"] == list(due.files)
        sizes = {form.label: form.size for form in report.forms}
        assert found["full"] == {"float32": sizes["float32"], "16 bits": sizes["fp16"]}
        betas = {one["name"]: one["value"] for one in found["betas"]}
        assert betas == {entry.name: entry.beta for entry in due.parameters if entry.beta_learned}
        names = [name for row in found["rows"] for name in row["names"]]
        assert sorted(names) == sorted(entry.name for entry in due.parameters)


def test_the_packs_have_what_a_pack_can_have(trained):
    entries = [entry for path, _ in trained.values() for entry in header_of(path)[1]["parameters"].values()]
    assert {entry["role"] for entry in entries} == {"adapted", "seeded", "stored", "constant"}
    codings = {entry["coding"]["id"] for entry in entries if "coding" in entry}
    assert codings == {"float16", "bfloat16", "int8-block64", "normal4-block64", "planes-zlib", "trellis8"}
    assert {len(due) for _, due in trained.values()} == {1, 2, 3}


VALUES = (None, True, False, 0, 1, -1, 2**53, 2**64 - 1, 1.0, 0.5, -0.0, 1e300, "", "x", "float32", "00", [], [1, 2])
VALUES += ([1.0], {}, {"x-a": 1}, "seeded", "adapted", "stored", "constant", "tied", "normal16", "a/b", "e\u0301")
KEYS = (
    "x-note",
    "role",
    "shape",
    "scale",
    "to",
    "alpha",
    "",
    "a/b",
    "lora_A",
    "tables",
    "class",
    "__proto__",
    "\ue000",
)


def header_of(pack: Path) -> tuple[dict, dict, bytes]:
    """Header, descriptor and data of a pack, unchecked."""
    whole = pack.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:start])
    return header, json.loads(header["__metadata__"]["lottapack"]), whole[start:]


def mutate(chance: random.Random, value: object) -> None:
    """Change, add, remove or copy something somewhere inside an object."""
    spots = [value]
    for item in spots:
        inner = item.values() if isinstance(item, dict) else item
        spots += [one for one in inner if isinstance(one, dict | list) and one]
    spot = chance.choice(spots)
    keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
    key = chance.choice(keys)
    match chance.randrange(5):
        case 0:
            del spot[key]
        case 1 if isinstance(spot, dict):
            spot[chance.choice(KEYS)] = chance.choice(VALUES)
        case 2:
            spot[key] = spot[chance.choice(keys)]
        case 3 if isinstance(spot[key], str) and spot[key]:
            place = chance.randrange(len(spot[key]))
            spot[key] = spot[key][:place] + chance.choice(["", "0", "F", "a", ".", "\x7f"]) + spot[key][place + 1 :]
        case _:
            spot[key] = chance.choice(VALUES)


def faulty(chance: random.Random, pack: Path) -> bytes:
    """A pack with a random fault in its descriptor, its header or its bytes; digest and padding are right again."""
    header, descriptor, data = header_of(pack)
    what = chance.randrange(4)
    if what < 2:
        mutate(chance, descriptor)
        text = canonical.dumps(descriptor)
        header["__metadata__"] = {"lottapack": text.decode(), "lottapack.sha256": hashlib.sha256(text).hexdigest()}
    elif what == 2:
        mutate(chance, header)
    written = bytearray(canonical.dumps(header))
    if what == 3:
        place = chance.randrange(len(written))
        written[place : place + chance.randrange(3)] = chance.choice(
            [b"", b"0", b" ", b'"', b"\\", b"\xff", b"{", b"-"]
        )
    written += b" " * (-len(written) % 8)
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)] + chance.choice([b"", b"\0"])
    return len(written).to_bytes(8, "little") + written + data


def verdict(path: Path) -> object:
    """Return lottapack's verdict on a pack: section, kind and place of the first fault, and the count."""
    try:
        checks = lottapack.verify(path).checks
    except (FormatError, IntegrityError) as error:
        found = sorted((problem.kind, problem.where) for problem in error.problems)
        return [PLACES[type(error).__name__], *map(list, found)]
    except lottapack.errors.LimitError as error:
        # Node does not build models, so it does not check numbers of the configuration.
        return "right" if "config." in error.message else "limit"
    failed = [
        [check.what, check.where] for check in checks if check.status == "failed" and check.what != "architecture"
    ]
    return ["contents", *sorted(failed)] if failed else "right"


def verdict_of_node(report: dict) -> object:
    """The same from node.js."""
    if report.get("section") == "limit":
        return "limit"
    if "section" in report:
        return [report["section"], *sorted([problem["kind"], problem["where"]] for problem in report["problems"])]
    failed = [[check["what"], check["where"]] for check in report["checks"] if check["status"] == "failed"]
    return ["contents", *sorted(failed)] if failed else "right"


@pytest.mark.slow
def test_random_faults_are_judged_alike(tmp_path):
    chance = random.Random(5)
    packs = sorted(VALID.glob(f"*{SUFFIX}"))
    paths = []
    for number in range(extent(150, 600)):
        pack = chance.choice(packs)
        path = tmp_path / f"{number}-{pack.name}"
        path.write_bytes(faulty(chance, pack))
        paths.append(path)
    here = {path.name: verdict(path) for path in paths}
    there = {Path(report["path"]).name: verdict_of_node(report) for report in reports(paths)}
    assert there.keys() == here.keys()
    assert {name: (there[name], due) for name, due in here.items() if there[name] != due} == {}
    sections = {due if isinstance(due, str) else due[0] for due in here.values()}
    assert sections >= {"right", "container", "descriptor", "agreement", "contents"}


@pytest.mark.slow
def test_node_leaves_no_hash_and_no_part_of_the_data_out(tmp_path):
    """Like tests/spec/test_every_hash.py. Checks that need torch are reported as skipped."""
    paths, due = [], []
    for pack in sorted(VALID.glob(f"*{SUFFIX}")):
        for what, where, data in changes(pack):
            paths.append(tmp_path / f"{len(paths)}{SUFFIX}")
            paths[-1].write_bytes(data)
            due.append((what, where, header_of(pack)[1]["rng"]["id"]))
    for (what, where, rng_id), report in zip(due, reports(paths), strict=True):
        if rng_id == "torch-cpu" and what == "fingerprint":
            assert [check["status"] for check in report["checks"] if check["what"] == what].count("skipped") > 0
        else:
            assert not report["ok"], (report["path"], where)
            assert "section" in report or any(check["status"] == "failed" for check in report["checks"])


def test_node_says_what_it_did_not_check():
    """A verify() that forgets a tensor counts it against the descriptor's list."""
    code = f"""
import {{ open, verify }} from "{JS.as_uri()}/lottapack.js";
import {{ fromFile }} from "{JS.as_uri()}/node.js";
const pack = await open(fromFile(process.argv[1]));
pack.tensors.delete([...pack.tensors.keys()].at(-1));
console.log(JSON.stringify(await verify(pack)));
"""
    (found,) = lines(node("--input-type=module", "--eval", code, VALID / f"every_role{SUFFIX}"))
    assert not found["ok"]
    assert [check["what"] for check in found["checks"] if check["status"] == "failed"] == ["sha256"]


def test_the_example_of_the_readme_runs():
    code = (JS / "README.md").read_text("utf-8").split("```js\n")[1].split("```")[0]
    code = code.replace("./", f"{JS.as_uri()}/").replace(f"model{SUFFIX}", str(VALID / f"every_role{SUFFIX}"))
    done = node("--input-type=module", "--eval", code)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "true"


COST = f"""
import {{ open }} from "{JS.as_uri()}/lottapack.js";
import {{ fromFile }} from "{JS.as_uri()}/node.js";
for (const path of process.argv.slice(1)) {{
  const before = process.cpuUsage().user;
  const said = await open(fromFile(path)).then(() => [], ({{ problems }}) => problems.map(({{ kind }}) => kind));
  console.log(JSON.stringify([said.length, [...new Set(said)], process.cpuUsage().user - before]));
}}
"""


@pytest.mark.slow
def test_large_hostile_files_are_judged_alike_and_in_good_time(tmp_path):
    due = []
    for number, (_, data) in enumerate([*hostile_files.files()][:: extent(3, 1)]):
        path = tmp_path / f"{number:03}"
        path.write_bytes(data)
        try:
            lottapack.open_pack(path).close()
            due.append([])
        except FormatError as error:
            due.append([problem.kind for problem in error.problems])
    found = lines(node("--input-type=module", "--eval", COST, *sorted(tmp_path.iterdir())))
    assert [[count, kinds] for count, kinds, _ in found] == [[len(kinds), [*dict.fromkeys(kinds)]] for kinds in due]
    assert max(microseconds for *_, microseconds in found) < 1e7  # 10 s


def written(path: Path, parameters: dict) -> Path:
    """Write a pack of parameters that are not in the file; unchecked."""
    text = canonical.dumps(
        {
            "lottapack": "1.0",
            "architecture": {"family": "python", "class": "a.b:C", "config": {}},
            "rng": {"id": "philox4x32-10", "seed": "0" * 16, "tables": {}},
            "parameters": parameters,
            "provenance": {},
        }
    )
    digest = hashlib.sha256(text).hexdigest()
    header = canonical.dumps({"__metadata__": {"lottapack": text.decode(), "lottapack.sha256": digest}})
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


ONE = {"role": "constant", "shape": [1], "dtype": "int8", "value": "07"}


def test_a_parameter_called_proto_and_a_long_chain_of_ties(tmp_path):
    """Each name has its digest, and a chain is followed once."""
    ties = {f"t{i:06d}": {"role": "tied", "to": f"t{i + 1:06d}"} for i in range(20_000)}
    pack = written(tmp_path / f"a{SUFFIX}", {"__proto__": ONE, **ties, "t020000": ONE})
    (found,) = reports([pack], "--plain")
    assert found["ok"]
    assert len(found["plain"]["default"]) == 20_002
    assert set(found["plain"]["default"].values()) == {hashlib.sha256(b"\7").hexdigest()}


@pytest.mark.parametrize("changes", [{"alpha": 1}, {"alpha": "1"}, {"scale": 1}, {"alpha": 1, "scale": 2}, {}])
@pytest.mark.parametrize("lost", ["lora_A", "lora_B", None])
def test_the_first_of_two_faults_in_one_entry_is_told(changes, lost, tmp_path):
    tensor = {"dtype": "float32", "sha256": "0" * 64}
    adapter = {part: tensor for part in ("lora_A", "lora_B") if part != lost}
    entry = {"role": "adapted", "shape": [2, 3], "dtype": "float32", "distribution": "sign1", "scale": 1.0, "rank": 1}
    entry |= {"fingerprint": "0" * 16, "fan_in_fan_out": False, "alpha": 1.0, "scaling": "lora", "adapter": adapter}
    pack = written(tmp_path / f"a{SUFFIX}", {"l.weight": entry | changes})
    assert verdict(pack) == verdict_of_node(reports([pack])[0])
