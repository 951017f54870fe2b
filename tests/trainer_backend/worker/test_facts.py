"""What a worker reads of its run: once, in the shape of the run's own answers."""

import shutil

import pytest
from small_runs import small_run

from trainer_backend.errors import UserError
from trainer_backend.runs.run import Run
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.main import run_worker


def test_facts_are_what_the_run_itself_says(run):
    facts = RunFacts.load(run)
    assert (facts.spec, facts.recipe, facts.dataset) == (run.spec(), run.recipe(), run.dataset())
    assert (facts.train_at.tolist(), facts.held_out_at.tolist()) == run.split()
    assert facts.start is None and facts.revision is None


def test_a_run_whose_dataset_is_gone_has_no_facts(run):
    shutil.rmtree(run.dataset().dir)
    with pytest.raises(UserError):
        RunFacts.load(run)


def test_a_worker_reads_settings_and_data_once(home, dataset, tiny_model_dir, monkeypatch):
    asked = []

    def counted(name):
        original = getattr(Run, name)

        def read(self):
            asked.append(name)
            return original(self)

        monkeypatch.setattr(Run, name, read)

    run = small_run(home, dataset, tiny_model_dir, max_steps=2, answer_check_rows=2)
    for name in ("recipe", "dataset", "split"):
        counted(name)
    assert run_worker(run.dir) == 0, run.state()
    assert sorted(asked) == ["dataset", "recipe"]
