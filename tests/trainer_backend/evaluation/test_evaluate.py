"""evaluate() in Python: what a run and its rows may be given as."""

import pytest
from evaluated import FakeEngine
from run_files import set_state

import trainer_backend
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError
from trainer_backend.runs.checkpoints import commit


@pytest.fixture
def engine(monkeypatch):
    fake = FakeEngine()
    monkeypatch.setattr("trainer_backend.evaluation.evaluate.evaluate_run", fake.evaluate_run)
    return fake


@pytest.fixture
def ended(run):
    folder = run.dir / "checkpoints" / "checkpoint-4"
    folder.mkdir(parents=True)
    commit(folder, 4, None, run.id)
    set_state(run, state="finished")
    return run


def test_a_run_is_an_id_a_folder_or_a_run(ended, home, engine):
    for given in (ended, ended.dir, str(ended.dir)):
        assert trainer_backend.evaluate(given).run == ended.id
    found = trainer_backend.evaluate(ended.id, home=home, checkpoint="last", metrics=["chrf"])
    assert found.checkpoint == 4
    assert engine.calls[-1] == {"rows": None, "dataset": None, "checkpoint": 4, "metrics": "chrf"}
    with pytest.raises(UserError, match="no such run"):
        trainer_backend.evaluate("run-000000000000", home=home)


def test_rows_are_an_id_a_file_or_a_list(ended, home, dataset, engine, tmp_path):
    path = tmp_path / "two.jsonl"
    path.write_text('{"prompt": "a", "response": "b"}\n{"prompt": "c", "response": "d"}\n')
    rows = [{"prompt": "a", "response": "b"}]
    for given, count in ((dataset, 40), (dataset.id, 40), (path, 2), (rows, 1)):
        trainer_backend.evaluate(ended, given, rows=3)
        assert open_dataset(home, engine.calls[-1]["dataset"]).num_examples == count


def test_all_checkpoints_are_no_single_evaluation(ended, engine):
    with pytest.raises(UserError, match="one checkpoint"):
        trainer_backend.evaluate(ended, checkpoint="all")
