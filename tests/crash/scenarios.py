"""The scenarios: packing, exporting, signing, pushing, pulling, and caching compiled kernels."""

import json
import os
import random
import shutil
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from kills import LostError, Scenario, copy_tree, hidden

NAME = "model.lotta.safetensors"
REPO = "org/model"


def make_packs(folder: Path) -> None:
    """Write two models' packs ``old/`` and ``new/``, their checkpoints and full weights."""
    import torch
    from torch import nn

    import lottapack

    for number, word in enumerate(("old", "new")):
        (folder / word).mkdir()
        layers = nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 64)
        model = lottapack.scaffold(nn.Sequential(*layers), seed=number, rank=8)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.linspace(-1, 1 + number, parameter.numel()).reshape(parameter.shape)
        torch.save(model.state_dict(), folder / word / "model.pt")
        lottapack.pack(model, folder / word / NAME)
        lottapack.export(folder / word / NAME, folder / word / "full.safetensors")


class OneFile(Scenario):
    """A run that replaces one file: ``out`` holds the old one, ``made`` names the expected new one."""

    made: str

    def prepare(self) -> None:
        make_packs(self.folder)
        (self.folder / "out").mkdir()

    @property
    def out(self) -> Path:
        """The path of the replaced file."""
        return self.folder / "out" / self.made

    def due(self, word: str) -> bytes:
        """Return the content of the old or the new file."""
        return (self.folder / word / self.made).read_bytes()

    def reset(self) -> None:
        self.out.write_bytes(self.due("old"))

    def state(self) -> str:
        found = self.out.read_bytes()
        for word in ("old", "new"):
            if found == self.due(word):
                return word
        raise LostError(f"{self.out} is a third thing, of {len(found)} bytes")

    def complete(self) -> None:
        super().complete()
        left = sorted(path.name for path in self.out.parent.iterdir())
        if left != [self.made]:
            raise LostError(f"{self.name}: {left} are left")


class Pack(OneFile):
    """lottapack pack."""

    name, made = "pack", NAME

    def run(self) -> None:
        import lottapack

        lottapack.pack(self.folder / "new" / "model.pt", self.out)


class Export(OneFile):
    """lottapack export."""

    name, made = "export", "full.safetensors"

    def run(self) -> None:
        import lottapack

        lottapack.export(self.folder / "new" / NAME, self.out)


class Sign(OneFile):
    """lottapack sign. Signatures differ each time, so each is judged by verifying it."""

    name, made = "sign", f"{NAME}.sig"

    def prepare(self) -> None:
        from cryptography.hazmat.primitives import serialization as pem
        from cryptography.hazmat.primitives.asymmetric import ec

        import lottapack

        super().prepare()
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
        public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "key").write_bytes(private)
        (self.folder / "key.pub").write_bytes(public)
        for word in ("old", "new"):
            lottapack.sign(self.folder / word / NAME, self.folder / "key")
        shutil.copy(self.folder / "new" / NAME, self.folder / "out" / NAME)

    def run(self) -> None:
        import lottapack

        lottapack.sign(self.folder / "out" / NAME, self.folder / "key")

    def state(self) -> str:
        if self.out.read_bytes() == self.due("old"):
            return "old"
        import lottapack

        if not lottapack.verify(self.folder / "out" / NAME, key=self.folder / "key.pub").ok:
            raise LostError("a signature that does not verify")
        return "new"

    def complete(self) -> None:
        if self.state() != "new":
            raise LostError("a run that went through left the old signature")
        left = sorted(path.name for path in self.out.parent.iterdir())
        if left != [NAME, self.made]:
            raise LostError(f"{self.name}: {left} are left")


class ExportFolder(Scenario):
    """lottapack export --format transformers-pack, into a folder with another model's files."""

    name = "export over a folder"
    entry = "config.json"
    """What readers look for first; it is there only where all else is what it speaks of."""
    options: ClassVar[dict[str, str]] = {"format": "transformers-pack"}

    def prepare(self) -> None:
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        import lottapack

        for number, word in enumerate(("old", "new")):
            sizes = {"n_embd": 32, "n_layer": 1 + number, "n_head": 2, "n_positions": 16, "vocab_size": 128}
            config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False)
            with torch.random.fork_rng():
                torch.manual_seed(number)
                model = lottapack.scaffold(GPT2LMHeadModel(config), seed=number, rank=2, beta=1.0)
            lottapack.pack(model, self.folder / f"{word}.lotta.safetensors")
            self._export(word, self.folder / word)

    def _export(self, word: str, folder: Path) -> None:
        import lottapack

        lottapack.export(self.folder / f"{word}.lotta.safetensors", folder, **self.options)

    def reset(self) -> None:
        copy_tree(self.folder / "old", self.folder / "out")
        (self.folder / "out" / "notes.txt").write_text("mine")

    def run(self) -> None:
        self._export("new", self.folder / "out")

    def _content(self, word: str) -> dict[str, bytes]:
        """Return the visible files of a folder, by name."""
        folder = self.folder / word
        found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        return {
            name: path.read_bytes() for name, path in found.items() if not name.startswith(".") and name != "notes.txt"
        }

    def state(self) -> str:
        if (self.folder / "out" / "notes.txt").read_text() != "mine":
            raise LostError("a file that is not ours was touched")
        old, new, found = self._content("old"), self._content("new"), self._content("out")
        for name, content in found.items():
            if content not in (old.get(name), new.get(name)):
                raise LostError(f"{name} is a third thing")
        if found == old:
            return "old"
        if self.entry not in found:
            return "mixed"
        if any(found.get(name) != content for name, content in new.items()):
            raise LostError(f"{self.entry} is there, and not what it speaks of: {sorted(found)}")
        return "new"

    def complete(self) -> None:
        super().complete()
        if self._content("out") != self._content("new"):
            raise LostError(f"{self.name}: files of the old are left")
        if left := hidden(self.folder / "out"):
            raise LostError(f"{self.name}: {left} are left")


class ExportShards(ExportFolder):
    """lottapack export --max-shard-size, over other shards."""

    name = "export of shards over others"
    entry = "model.safetensors.index.json"
    options: ClassVar[dict[str, str]] = {"format": "transformers", "max_shard_size": "20kB"}


class ExportNewFolder(ExportFolder):
    """lottapack export --format peft: files in two new folders."""

    name = "export of a new folder"
    options: ClassVar[dict[str, str]] = {"format": "peft"}

    def reset(self) -> None:
        shutil.rmtree(self.folder / "out", ignore_errors=True)

    def _content(self, word: str) -> dict[str, bytes]:
        """Return the base that an adapter's configuration names."""
        place = str(self.folder / word).encode()
        return {name: content.replace(place, b"") for name, content in super()._content(word).items()}

    def state(self) -> str:
        if not (self.folder / "out").exists():
            return "old"
        if self._content("out") != self._content("new"):
            raise LostError("a new folder is not whole")
        return "new"

    def complete(self) -> None:
        super().complete()
        if left := hidden(self.folder):
            raise LostError(f"{self.name}: {left} are left")


class Push(Scenario):
    """lottapack push: a commit with pack and card to a running registry. Each run swaps old and new."""

    name = "push"

    def prepare(self) -> None:
        make_packs(self.folder)
        self._push("old")

    def _push(self, word: str) -> None:
        import lottapack

        lottapack.push(self.folder / word / NAME, REPO)

    def _there(self) -> dict[str, str]:
        """Return the SHA-256 of pack and card in the registry's current commit.

        It asks for the commit by hash: a killed client's request can still move "main" a moment later.
        """
        import hashlib

        found, server = {}, os.environ["HF_ENDPOINT"]
        with urllib.request.urlopen(f"{server}/api/models/{REPO}/revision/main", timeout=300) as answer:
            commit = json.load(answer)["sha"]
        for name in (NAME, "README.md"):
            address = f"{server}/{REPO}/resolve/{commit}/{name}"
            with urllib.request.urlopen(address, timeout=300) as answer:
                found[name] = hashlib.sha256(content := answer.read()).hexdigest()
        found["card"] = content.decode()
        return found

    def _word(self) -> str:
        import hashlib

        there = self._there()
        for word in ("old", "new"):
            sha256 = hashlib.sha256((self.folder / word / NAME).read_bytes()).hexdigest()
            if there[NAME] == sha256:
                if sha256 not in there["card"]:
                    raise LostError("the card is another pack's")
                return word
        raise LostError("the registry holds a third thing")

    def reset(self) -> None:
        self.target = "new" if self._word() == "old" else "old"

    def run(self) -> None:
        self._push(self.target)

    def state(self) -> str:
        return "new" if self._word() == self.target else "old"


class Pull(Scenario):
    """lottapack pull of a branch that has moved: the cache holds the old commit's pack."""

    name = "pull"

    def prepare(self) -> None:
        import lottapack

        make_packs(self.folder)
        for word in ("old", "new"):
            lottapack.push(self.folder / word / NAME, REPO.replace("model", "pulled"))
            if word == "old":
                lottapack.pull(REPO.replace("model", "pulled"))
                copy_tree(self.cache, self.folder / "cache")

    @property
    def cache(self) -> Path:
        """Return the client's folder of the repository."""
        return Path(os.environ["HF_HOME"]) / "hub" / "models--org--pulled"

    def reset(self) -> None:
        copy_tree(self.folder / "cache", self.cache)

    def run(self) -> None:
        import lottapack

        got = lottapack.pull(REPO.replace("model", "pulled"))
        if got.path.read_bytes() != (self.folder / "new" / NAME).read_bytes():
            raise LostError("another pack was pulled")

    def state(self) -> str:
        due = {(self.folder / word / NAME).read_bytes(): word for word in ("old", "new")}
        found = [due.get(path.read_bytes()) for path in self.cache.glob(f"snapshots/*/{NAME}")]
        if None in found or "old" not in found:
            raise LostError("the cache's snapshots hold a third thing, or lack the old pack")
        commit = (self.cache / "refs" / "main").read_text("ascii")
        if not (self.cache / "snapshots" / commit / NAME).is_file():
            raise LostError("refs/main names a commit that is not in the cache")
        return "new" if "new" in found else "old"

    def complete(self) -> None:
        super().complete()
        if left := hidden(self.cache / "refs"):
            raise LostError(f"{left} are left")


class OciPush(Push):
    """lottapack push to an OCI registry, where a tag moves from one pack to the other."""

    name = "push, OCI"
    repository = "tests/pushed"

    @property
    def host(self) -> str:
        """The registry."""
        return os.environ["TESTS_OCI_HOST"]

    def _push(self, word: str) -> None:
        import lottapack

        lottapack.push(self.folder / word / NAME, f"oci://{self.host}/{self.repository}:v1")

    def _word(self) -> str:
        digest = json.loads(self._ask("manifests/v1"))["layers"][0]["digest"]
        content = self._ask(f"blobs/{digest}")
        for word in ("old", "new"):
            if content == (self.folder / word / NAME).read_bytes():
                return word
        raise LostError("the registry holds a third thing")

    def _ask(self, what: str) -> bytes:
        """Return the registry's answer after it has finished a killed client's request.

        Debian's registry writes a tag in place, and answers 500 meanwhile.
        """
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json, */*"}
        request = urllib.request.Request(f"http://{self.host}/v2/{self.repository}/{what}", headers=accept)
        end = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(request, timeout=300) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as fault:
                if fault.code != 500 or time.monotonic() > end:
                    raise LostError(f"the tag names what is not there: {fault}") from fault
                time.sleep(0.05)


class OciPull(OciPush):
    """A pull from an OCI registry into our own cache."""

    name = "pull, OCI"
    repository = "tests/pulled"

    def prepare(self) -> None:
        make_packs(self.folder)
        self._push("new")

    @property
    def cache(self) -> Path:
        """Our own cache."""
        return Path(os.environ["LOTTAPACK_CACHE"])

    def reset(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)

    def run(self) -> None:
        import lottapack

        got = lottapack.pull(f"oci://{self.host}/{self.repository}:v1")
        if got.path.read_bytes() != (self.folder / "new" / NAME).read_bytes():
            raise LostError("another pack was pulled")

    def state(self) -> str:
        for path in self.cache.rglob(NAME):
            if path.read_bytes() != (self.folder / "new" / NAME).read_bytes():
                raise LostError("the cache holds a third thing")
        whole = list(self.cache.rglob("manifest.json"))
        if whole and not whole[0].with_name(NAME).is_file():
            raise LostError("the cache says that it is whole, and is not")
        return "new" if whole else "old"


class KernelCache(Scenario):
    """The cache of compiled kernels. Each round one missing kernel is compiled and written."""

    name = "cache of kernels"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.draw = random.Random(0)

    def _generate(self) -> None:
        import numpy as np

        from lottapack import rng
        from lottapack.rng import reference
        from lottapack.rng.kernels import declared, object_files

        # (A prefix for all that Python compiles would have it compile numba's modules as well.)
        object_files.cache_from_source = lambda path: str(self.folder / "out" / Path(path).name)
        for kernel in (declared.FILL, declared.FINGERPRINT_BLOCKS):
            kernel._forms.clear()  # a child inherits those of this process

        source = rng.Source(7, "x", rng.builtin("sign1"), 1.0, "float32")
        elements = reference.elements(source, 0, 5000)
        filled = np.empty(elements.size, elements.dtype)
        rng.fill_bits(filled, source)
        if not np.array_equal(filled, elements) or rng.fingerprint_of(source, 5000) != reference.fingerprint(elements):
            raise LostError("kernels from the cache compute something else")

    def prepare(self) -> None:
        (self.folder / "out").mkdir()
        self._generate()
        copy_tree(self.folder / "out", self.folder / "full")

    def reset(self) -> None:
        copy_tree(self.folder / "full", self.folder / "out")
        kernel = self.draw.choice(("fill", "fingerprint_blocks"))
        for path in (self.folder / "out").rglob(f"{kernel}-*.o"):
            path.unlink()

    def run(self) -> None:
        self._generate()

    def state(self) -> str:
        full, found = (
            {path.name.partition("-")[0] for path in (self.folder / word).rglob("*.o")} for word in ("full", "out")
        )
        return "new" if full == found else "old"


def local() -> list[type[Scenario]]:
    """Return the scenarios that write to this machine only. Imports everything, so that a forked child need not."""
    import torch

    import lottapack
    from lottapack import rng

    torch.set_num_threads(1)  # other threads do not survive a fork
    rng.fingerprint_of(rng.Source(7, "x", rng.builtin("normal16"), 1.0, "float32"), 100)
    for name in lottapack.__all__:
        getattr(lottapack, name)
    found: list[type[Scenario]] = [Pack, Export]
    try:
        import model_signing.verifying
    except ImportError:
        print("not killed: sign (model-signing is not installed)", flush=True)
    else:
        assert model_signing
        found.append(Sign)
    try:
        import transformers
    except ImportError:
        print("not killed: export of a folder (transformers is not installed)", flush=True)
    else:
        transformers.GPT2Model  # noqa: B018 - imports its module
        found += [ExportFolder, ExportShards, ExportNewFolder]
    return found


def served(folder: Path, stack: ExitStack) -> list[type[Scenario]]:
    """Push and pull, with our own registry in its own process."""
    from serve_runs import command

    os.environ["HF_HOME"] = str(folder / "hf")
    os.environ["HF_ENDPOINT"] = stack.enter_context(command(folder / "registry")).url
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ.pop("HF_TOKEN", None)
    from lottapack.pushing import hub
    from lottapack.registry import hub_pull

    assert hub_pull and hub
    return [Push, Pull]


def oci(folder: Path, stack: ExitStack) -> list[type[Scenario]]:
    """Push and pull with Debian's docker-registry, if it is installed."""
    if shutil.which("docker-registry") is None:
        if os.environ.get("CI") == "true":
            raise FileNotFoundError("docker-registry")
        print("not killed: push and pull, OCI (docker-registry is not installed)", flush=True)
        return []
    from oci_registries import running

    (folder / "docker").mkdir()
    os.environ["TESTS_OCI_HOST"] = stack.enter_context(running(folder / "docker")).host
    os.environ["LOTTAPACK_CACHE"] = str(folder / "oci-cache")
    os.environ["DOCKER_CONFIG"] = str(folder / "docker")
    from lottapack.registry import oci_client

    assert oci_client
    return [OciPush, OciPull]
