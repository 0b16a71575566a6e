"""The example of a language model below a size limit, trained for a few steps."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "small_gpt"


@pytest.fixture
def train(monkeypatch):
    """Import the example as its script does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("train", "recurrent_gpt"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import train

    yield train
    for name in ("train", "recurrent_gpt"):
        sys.modules.pop(name, None)


def test_it_fits_the_limit_and_evaluates_as_before(train, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_bytes(b"the licensee may copy and distribute verbatim copies of the program. " * 60)
    found = train.run(tmp_path, train.QUICK, [text], 26_000)
    assert found.packed == (tmp_path / "small.lotta.safetensors").stat().st_size <= 26_000 < found.uncoded
    assert 0 < found.worst_error < 0.1
    assert found.trained < 8.9  # untrained: 9 and more
    assert found.rebuilt == pytest.approx(found.trained, abs=0.2)
    assert "bits per byte" in capsys.readouterr().out


def test_each_text_gives_its_end_to_the_evaluation(train):
    seen, unseen = train.split([bytes(range(100)), bytes(range(100, 120))], 0.05)
    assert seen.tolist() == [*range(95), *range(100, 119)]
    assert unseen.tolist() == [*range(95, 100), 119]
