"""from_pretrained of a repository: a real client against a real server on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_models import BUILD, fit

import lottapack

pytest.importorskip("transformers")
pytest.importorskip("starlette")

CODE = """
import sys
import torch
from huggingface_hub import HfApi
import lottapack
from transformers import AutoModelForCausalLM
api = HfApi()
repo = api.create_repo("org/tiny").repo_id
api.upload_folder(repo_id=repo, folder_path=sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(repo)
again = AutoModelForCausalLM.from_pretrained(repo, local_files_only=True, dtype=torch.bfloat16)
assert again.dtype == torch.bfloat16
torch.save(dict(model.state_dict()), sys.argv[2])
"""


def test_a_repository_with_a_pack_is_a_model(tmp_path: Path) -> None:
    import torch

    from lottapack_serve import background

    pack, folder, out = tmp_path / "a.lotta.safetensors", tmp_path / "folder", tmp_path / "state.pt"
    lottapack.pack(fit(lottapack.scaffold(BUILD["llama"](), seed=3, rank=2), "llama"), pack)
    lottapack.export(pack, folder, format="transformers-pack")
    with background(tmp_path / "registry") as server:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment = {**plain, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "anything"}
        command = [sys.executable, "-c", CODE, str(folder), str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    merged = lottapack.load(pack, merge=True)
    found = {name: value.tolist() for name, value in torch.load(out, weights_only=True).items()}
    assert found == {name: value.tolist() for name, value in merged.state_dict().items()}
