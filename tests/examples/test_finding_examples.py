"""Examples of the paper's findings: seed gating, and any initialisation."""

import initialisations
import pytest
import seed_gating
import torch
from extent import extent

import lottapack


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_one_adapter_learns_three_tasks_and_the_seed_chooses(tmp_path):
    found = seed_gating.run(tmp_path)
    for scaffold in seed_gating.SEEDS:
        for task, accuracy in found[scaffold].items():
            assert accuracy > 0.95 if task == scaffold else accuracy < 0.05
    # The tasks together name three of ten labels for each kind: by chance all three get a tenth each.
    assert all(accuracy < 0.3 for accuracy in found["untrained"].values())
    pack = tmp_path / "gated.lotta.safetensors"
    assert {check.status for check in lottapack.verify(pack).checks} == {"ok"}
    one = seed_gating.build(1, {})
    lottapack.pack(one, tmp_path / "one.lotta.safetensors")
    assert pack.stat().st_size < 1.05 * (tmp_path / "one.lotta.safetensors").stat().st_size


@pytest.fixture(scope="module")
def digits():
    return initialisations.digits()


@pytest.mark.parametrize("name", extent([*initialisations.FAMILIES][::3], [*initialisations.FAMILIES]))
def test_every_family_learns_and_comes_back(name, digits, tmp_path):
    family = initialisations.FAMILIES[name]
    assert initialisations.accuracy(0, 8, digits, **family) > 0.8  # chance is 0.1
    model = initialisations.build(1, **family)
    weight = model[2].weight
    assert weight.unique().numel() > 1
    lottapack.pack(model, tmp_path / "a")
    loaded = lottapack.load(tmp_path / "a", check_fingerprints=True)
    assert loaded[2].weight.view(torch.int32).equal(weight.view(torch.int32))


def test_the_families_are_different():
    first = {name: initialisations.build(1, **family)[2].weight for name, family in initialisations.FAMILIES.items()}
    assert len({tuple(weight.flatten()[:64].tolist()) for weight in first.values()}) == len(first) == 21
