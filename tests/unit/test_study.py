"""study(): which ranks run, what is kept, and what is said."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import lottapack
from lottapack.errors import CheckpointError, OutputError, ScaffoldError, UnsupportedError
from lottapack.studying import records
from lottapack.studying.search import FULL, LORA, LOTTA, Plan, Trial


def build(seed):
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))


def train(model, seed, rank):
    """Saturates at rank 5: 0.9 + noise by the seed."""
    return 0.9 + 0.001 * seed - (0 if rank is None else 0.02 * max(0, 5 - rank))


def loss(model, seed, rank):
    return 1 - train(model, seed, rank)


def run(**options):
    return lottapack.study(train, build, **{"ranks": (1, 2, 4, 8, 16), "seeds": 3, "tolerance": 0.005, **options})


def test_the_smallest_rank_lies_between_the_ranks_that_were_named():
    found = run()
    assert found.rank == 5
    assert found.full.scores == pytest.approx((0.9, 0.901, 0.902))
    assert found.target == pytest.approx(0.896)
    assert {point.rank: len(point.scores) for point in found.curve} == {1: 1, 2: 2, 4: 3, 5: 3, 6: 3, 8: 3, 16: 1}


def test_a_loss_is_minimised():
    found = lottapack.study(loss, build, ranks=(1, 2, 4, 8, 16), tolerance=0.005, maximise=False)
    assert found.rank == 5
    assert found.target == pytest.approx(0.104)


def test_all_ranks_run_with_all_seeds_if_thorough():
    found = run(ranks=(1, 8), thorough=True, tolerance=1)
    assert found.rank == 1
    assert [len(point.scores) for point in found.curve] == [3, 3]


def test_none_where_no_rank_reaches_full_training():
    found = run(ranks=(1, 2))
    assert found.rank is None
    assert "none" in found.markdown()
    assert len(found.curve[-1].scores) == 3  # the best one was decided with all seeds


def test_models_are_scaffolded_but_for_full_training():
    seen = []

    def look(model, seed, rank):
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        seen.append((seed, rank, lottapack.nn.is_scaffolded(model), trained))
        return 1.0

    found = lottapack.study(look, build, ranks=(2,), seeds=1, options={"train": ["biases"], "beta": 1.0})
    assert seen == [(0, None, False, 64 * 16 + 64 + 64 * 4 + 4), (0, 2, True, 2 * (16 + 64) + 2 * (64 + 4) + 64 + 4)]
    assert found.curve[0].trained == seen[1][3]
    assert found.curve[0].total == seen[0][3]


def test_plain_lora_runs_on_trained_weights():
    trained = build(0)
    seen = []

    def look(model, seed, rank):
        if rank is not None:
            seen.append((model[0].backbone.equal(trained[0].weight), model[0].beta is None))
        return 1.0

    found = lottapack.study(look, build, ranks=(1, 2), seeds=1, pretrained=lambda seed: trained)
    assert sorted(seen) == [(False, False)] * 2 + [(True, True)] * 2
    assert [point.rank for point in found.lora] == [1, 2]
    assert "plain LoRA, rank 2" in found.markdown()


class KilledError(Exception):
    pass


def test_a_killed_study_continues(tmp_path):
    record = tmp_path / "study.jsonl"
    count, ran = 0, []

    def flaky(model, seed, rank):
        nonlocal count
        count += 1
        if count == 7:
            raise KilledError
        ran.append((seed, rank))
        return train(model, seed, rank)

    with pytest.raises(KilledError):
        lottapack.study(flaky, build, ranks=(1, 2, 4, 8), record=record)
    kept = record.read_text().splitlines()
    assert len(kept) == 7  # a head, and six runs
    record.write_text("\n".join([*kept, kept[-1][:20]]))  # and half a line
    found = lottapack.study(flaky, build, ranks=(1, 2, 4, 8), record=record)
    assert len(ran) == len(set(ran))  # nothing ran twice
    assert found == lottapack.study(flaky, build, ranks=(1, 2, 4, 8), record=record)
    assert found.rank == lottapack.study(train, build, ranks=(1, 2, 4, 8)).rank


def test_a_record_of_another_study_is_refused(tmp_path):
    record = tmp_path / "study.jsonl"
    run(record=record)
    with pytest.raises(CheckpointError, match="belongs to another study: options is"):
        run(record=record, options={"distribution": "sign1"})
    with pytest.raises(CheckpointError, match="train is"):
        lottapack.study(loss, build, ranks=(1, 2), record=record)
    record.write_text("[]\n")
    with pytest.raises(CheckpointError, match="is not a record of a study"):
        run(record=record)
    record.write_bytes(b"\xff\xfe\n")
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(record=record)
    with pytest.raises(OutputError):
        run(record=record / "below" / "a" / "file")


def tuned(model, seed, rank, rate):
    return train(model, seed, rank)


class Tuned:
    def __init__(self, rate):
        self.rate = rate

    def __repr__(self):
        return f"Tuned({self.rate})"

    def __call__(self, model, seed, rank):
        return train(model, seed, rank)


@pytest.mark.parametrize("of", [lambda rate: partial(tuned, rate=rate), Tuned])
def test_a_record_knows_what_a_function_was_made_with(tmp_path, of):
    record = tmp_path / "study.jsonl"
    once = lottapack.study(of(0.1), build, ranks=(1, 2), seeds=1, record=record)
    assert lottapack.study(of(0.1), build, ranks=(1, 2), seeds=1, record=record) == once
    with pytest.raises(CheckpointError, match=r"train is .*0.1.* there, .*0.2.* here"):
        lottapack.study(of(0.2), build, ranks=(1, 2), seeds=1, record=record)


def test_numbers_of_numpy_are_kept(tmp_path):
    numbers = {"ranks": np.array([1, 2, 4, 8, 16]), "seeds": np.int64(3), "tolerance": np.float32(0.0078125)}
    found = run(**numbers, record=tmp_path / "study.jsonl")
    assert found == run(tolerance=0.0078125, record=tmp_path / "study.jsonl")
    assert json.loads(json.dumps(found.to_dict()))["rank"] == found.rank


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ranks": ()}, "ranks"),
        ({"ranks": (0, 1)}, "ranks"),
        ({"ranks": (1.5,)}, "ranks"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": True}, "seeds"),
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"ranks": (1, "2")}, "ranks"),
        ({"workers": 0}, "workers"),
        ({"options": {"rank": 3}}, "options"),
        ({"options": {"seed": 3}}, "options"),
    ],
)
def test_wrong_arguments_are_named(options, named):
    with pytest.raises(ScaffoldError, match=f"^{named}"):
        run(**options)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "0.5"])
def test_a_score_is_a_finite_number(score):
    with pytest.raises(ScaffoldError, match=r"`train` returned .* for full training, seed 0"):
        lottapack.study(lambda *_: score, build)


def test_processes_give_the_same(tmp_path):
    assert run(workers=2).to_dict()["curve"][0]["scores"] == run().to_dict()["curve"][0]["scores"]


def test_progress_grows():
    seen = []
    run(progress=lambda done, total: seen.append((done, total)))
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1] == 19


def test_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "joblib", None)
    with pytest.raises(UnsupportedError, match="joblib"):
        run()


def test_the_result_as_json_card_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    found = run()
    assert json.loads(json.dumps(found.to_dict()))["rank"] == 5
    assert found.results()["smallest rank within 0.005 of full training"] == "5"
    assert "Study" in repr(found)
    score = found.result(task="t", dataset="d", metric="m", chance=0.25)
    assert (score.rank, score.seeds, score.chance) == (5, 3, 0.25)
    assert (score.score, score.full) == pytest.approx((0.901, 0.901))
    with pytest.raises(ScaffoldError, match="every rank stays more than"):
        run(ranks=(1, 2)).result(task="t", dataset="d", metric="m")
    assert "<table>" in found._repr_html_()
    text = found.plot(tmp_path / "curve.svg").read_text()
    assert "rank 5 reaches full training within 0.005" in text
    assert found.plot(tmp_path / "again.svg").read_text() == text
    with pytest.raises(OutputError, match="unknown image format"):
        found.plot(tmp_path / "curve.gif")


def test_the_next_runs_follow_from_the_scores_alone():
    plan = Plan((1, 4, 16), 2, 0.1, maximise=True, thorough=False, with_lora=True)
    first = plan.wanted({})
    assert [trial for trial in first if trial.side == FULL] == [Trial(FULL, None, 0), Trial(FULL, None, 1)]
    assert [trial.rank for trial in first if trial.side == LOTTA] == [1, 4, 16]
    assert [trial.rank for trial in first if trial.side == LORA] == [1, 1, 4, 4, 16, 16]
    scores = dict.fromkeys(first, 1.0) | {Trial(LOTTA, 1, 0): 0.5, Trial(LOTTA, 4, 0): 0.8}
    assert {trial.rank for trial in plan.wanted(scores)} == {4, 16}
    scores |= {Trial(LOTTA, 4, 1): 0.8, Trial(LOTTA, 16, 1): 1.0}
    assert plan.wanted(scores) == [Trial(LOTTA, 10, 0), Trial(LOTTA, 10, 1)]


def test_a_record_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for record in (tmp_path / "pipe", "/dev/full"):
        with pytest.raises(CheckpointError, match="is not a regular file"):
            run(record=record)


def test_a_line_that_did_not_fit_is_taken_away_again(tmp_path, monkeypatch):
    path = tmp_path / "study.jsonl"
    records._append(path, {"a": 1})
    before = path.read_bytes()

    class Full:
        """A file on a disk with room for four more bytes."""

        def __init__(self, file):
            self.file, self.room = file, 4

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if not self.room:
                raise OSError(28, "No space left on device")
            count = self.file.write(bytes(data[: self.room]))
            self.room -= count
            return count

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda *arguments, **options: Full(real(*arguments, **options)))
    with pytest.raises(OutputError, match="No space left"):
        records._append(path, {"b": 2})
    monkeypatch.undo()
    assert path.read_bytes() == before
