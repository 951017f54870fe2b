"""Whole evaluations: at the end of a run, and of any checkpoint on any rows afterwards."""

import json
import shutil
from contextlib import nullcontext

import pytest
from run_files import ROWS
from small_runs import losses_of, train_small, weights_hash

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.evaluation import samples
from trainer_backend.evaluation.engine import evaluate
from trainer_backend.evaluation.engine.evaluate import evaluate_run
from trainer_backend.evaluation.engine.losses import HeldOutRows
from trainer_backend.evaluation.results import best_known, evaluations_of
from trainer_backend.home import open_home
from trainer_backend.models.loaded.load import load_base
from trainer_backend.worker import outcome

ASKED = {"answer_check_rows": 3, "sample_rows": 2, "eval_fraction": 0.2}


@pytest.fixture(scope="module")
def evaluated_home(tmp_path_factory, tiny_model_dir):
    home = open_home(tmp_path_factory.mktemp("evaluated"))
    data = create_from_rows(home, ROWS, name="numbers")
    return home, train_small(home, data, tiny_model_dir, **ASKED), data


@pytest.fixture
def run(evaluated_home):
    return evaluated_home[1]


def eval_loss(run, step: int) -> float:
    return next(r["eval_loss"] for r in run.metrics() if r["type"] == "eval" and r["step"] == step)


def test_a_run_ends_with_its_evaluation(run):
    found = evaluations_of(run)[-1]
    assert (found.run, found.checkpoint, found.rows, found.held_out) == (run.id, 4, 3, True)
    assert found.main == "exact_match" and found.verdict == "no clear difference"
    assert found.metrics["loss"].tuned == pytest.approx(eval_loss(run, 4), rel=1e-6)
    assert found.metrics["loss"].rows == 8 and found.metrics["exact_match"].rows == 3
    held = run.dataset().row_numbers()[run.split()[1]].tolist()
    assert [one.row for one in found.examples] == [held[0], held[4], held[7]]
    assert all(one.messages[-1]["content"] == one.prompt for one in found.examples)
    assert any(note.startswith("3 of 8 held-out rows were asked") for note in found.notes)
    answers = run.state()["answers"]
    assert answers == {"rows": 3, "base": 0.0, "tuned": answers["tuned"]}
    assert found.metrics["exact_match"].tuned == answers["tuned"]


def test_the_base_is_the_base_model_bit_for_bit(run, tiny_model_dir):
    """Losses and answers with the adapter off are those of the model that was never adapted."""
    found = evaluate_run(run)
    kept = evaluations_of(run)[-1]  # that at its end
    assert found.metrics == kept.metrics and found.examples == kept.examples
    plain, read = load_base(tiny_model_dir, "fp32"), {}
    real = HeldOutRows.losses

    def noted(self, model, done):
        read[len(read)] = real(self, model, done)
        return read[len(read) - 1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldOutRows, "losses", noted)
        evaluate_run(run)
        sides = evaluate.Sides(lambda: nullcontext(plain), lambda: nullcontext(plain))
        patch.setattr(evaluate, "open_sides", lambda *_: (sides, tiny_model_dir))
        again = evaluate_run(run)
    assert read[0] == read[2] and read[0] != read[1]
    assert [one.base for one in again.examples] == [one.base for one in found.examples]


@pytest.mark.parametrize("changes", [{"adapter": "full"}, {"init_lora_weights": "pissa"}], ids=str)
def test_other_methods_are_compared_with_the_same_base(
    evaluated_home, home, tiny_model_dir, changes
):
    data = create_from_rows(home, ROWS, name="numbers")
    run = train_small(home, data, tiny_model_dir, **ASKED, **changes, packing=True)
    found, lora = best_known(run), evaluations_of(evaluated_home[1])[-1]
    assert found.metrics["loss"].tuned == pytest.approx(eval_loss(run, 4), rel=1e-5)
    assert found.metrics["loss"].base == pytest.approx(lora.metrics["loss"].base, rel=1e-6)
    assert [one.base for one in found.examples] == [one.base for one in lora.examples]
    again = evaluate_run(run)
    assert again.metrics["loss"].tuned == pytest.approx(found.metrics["loss"].tuned, rel=1e-5)
    assert [one.tuned for one in again.examples] == [one.tuned for one in found.examples]


def test_a_checkpoint_and_another_dataset_can_be_evaluated(run, evaluated_home):
    home, _, _ = evaluated_home
    early = evaluate_run(run, checkpoint=2, rows=1, metrics="chrf")
    assert early.checkpoint == 2 and early.rows == 1 and list(early.metrics)[0] == "chrf"
    assert early.metrics["loss"].tuned == pytest.approx(eval_loss(run, 2), rel=1e-6)
    other = create_from_rows(home, [{"prompt": f"Say {n}", "response": f"{n}?"} for n in range(5)],
                             name="others")  # fmt: skip
    found = evaluate_run(run, dataset=other.id, rows=16, checkpoint="best")
    assert (found.rows, found.held_out, found.dataset) == (5, False, "others")
    assert best_known(run).held_out and found.id in {one.id for one in evaluations_of(run)}
    texts = create_from_rows(
        home, [{"text": f"It is {n} o'clock."} for n in range(4)], name="texts"
    )
    plain = evaluate_run(run, dataset=texts.id, metrics="loss")
    assert list(plain.metrics) == ["loss", "perplexity"] and plain.main == "loss"
    assert plain.rows == 4 and not plain.examples


def test_what_cannot_be_evaluated_is_told(run, evaluated_home):
    for given, words in (
        ({"checkpoint": 3}, "no checkpoint “3”"),
        ({"checkpoint": "newest"}, "no checkpoint “newest”"),
        ({"metrics": "blue"}, "“blue” is no measure"),
        ({"metrics": "exact_mach"}, "Did you mean exact_match"),
        ({"rows": 0}, "No row is asked for"),
        ({"dataset": "0000000000000000"}, "no such dataset"),
    ):
        with pytest.raises(UserError, match="(?i)" + words.replace("(", r"\(")) as told:
            evaluate_run(run, **given)
        assert told.value.fix


def test_a_run_whose_data_or_base_is_gone_says_so(evaluated_home, tmp_path):
    home, run, data = evaluated_home
    copied = tmp_path / "home"
    shutil.copytree(home, copied)
    lost = type(run)(copied / "runs" / run.id)
    base = tmp_path / "gone"
    spec = json.loads((lost.dir / "spec.json").read_text())
    spec["recipe"]["base_model"] = str(base)
    (lost.dir / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(UserError) as told:
        evaluate_run(lost)
    assert told.value.fix
    shutil.rmtree(copied / "datasets" / data.id)
    with pytest.raises(UserError, match="data of this run is gone"):
        evaluate_run(lost)


def test_progress_says_which_answer_of_which_model(run):
    said = []
    evaluate_run(run, progress=lambda *one: said.append(one))
    told = [one for one in said if one[0] == "Evaluating"]
    done = [one[1] for one in told]
    assert done == sorted(done) and told[-1][1] == told[-1][2] and told[0][3] == "answers"
    assert {one[4] for one in told} >= {"base model, 3 of 3 answers", "tuned model, 1 of 3 answers",
                                        "base model, loss of 8 of 8 parts"}  # fmt: skip


def broken(error):
    def evaluate_models(*_):
        raise error

    return evaluate_models


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (outcome.Stopped(), "you stopped it"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "no memory"),
        (OSError(28, "No space left on device"), "No space left"),
        (IndexError("index out of range in self"), "broke off (index out of range in self)"),
    ],
    ids=["stop", "memory", "disk", "model"],
)
def test_what_goes_wrong_in_it_never_costs_the_run(
    home, dataset, tiny_model_dir, monkeypatch, error, words
):
    monkeypatch.setattr(outcome, "evaluate_models", broken(error))
    run = train_small(home, dataset, tiny_model_dir, max_steps=1, answer_check_rows=2,
                      eval_fraction=0.2)  # fmt: skip
    state = run.state()
    assert state["state"] == "finished" and state["answers"] is None and run.checkpoints()
    assert any("evaluation was left out" in one and words in one for one in state["warnings"])


# Samples while it trains


def test_samples_change_nothing_in_the_training(run, home, tiny_model_dir):
    data = create_from_rows(home, ROWS, name="numbers")
    silent = train_small(home, data, tiny_model_dir, eval_fraction=0.2)
    assert losses_of(run) == losses_of(silent) and weights_hash(run) == weights_hash(silent)
    assert samples.samples_of(silent) == [] and len(samples.samples_of(run)) >= 2


def test_each_sample_says_its_step_its_row_and_what_was_written(run):
    found = samples.samples_of(run)
    first, held = found[:2], evaluations_of(run)[-1]
    assert [one["step"] for one in first] == [0, 0]
    assert [one["row"] for one in first] == [held.examples[0].row, held.examples[-1].row]
    assert [one["text"] for one in first] == [held.examples[0].base, held.examples[-1].base]
    for one in found:
        assert one["expected"] == one["prompt"].replace("Say ", "") + "!"
        assert one["seconds"] > 0 and isinstance(one["cut"], bool)


def test_samples_behind_a_checkpoint_are_dropped_at_a_resume(run):
    damaged = {"step": 4}
    samples.add_samples(run, [{**samples.samples_of(run)[0], "step": 3}, damaged])
    samples.forget_after(run, 2)
    kept = samples.samples_of(run)
    assert {one["step"] for one in kept} <= {0, 2} and len(kept) >= 2
    assert len((run.dir / "samples.jsonl").read_text().splitlines()) == len(kept)


def test_a_model_that_cannot_be_asked_goes_on_training(home, dataset, tiny_model_dir, monkeypatch):
    from trainer_backend.evaluation.engine import sampling

    def fails(*_):
        raise IndexError("index out of range in self")

    monkeypatch.setattr(sampling, "write_answers", fails)
    run = train_small(home, dataset, tiny_model_dir, max_steps=1, sample_rows=1, eval_fraction=0.2)
    assert run.state()["state"] == "finished" and samples.samples_of(run) == []
    said = [one for one in run.state()["warnings"] if one.startswith("No samples while training")]
    assert len(said) == 1 and "index out of range" in said[0]


def test_the_budget_of_samples_is_a_share_of_the_run():
    from trainer_backend.evaluation.engine.sampling import Budget

    now = [0.0]
    budget = Budget(0.05, lambda: now[0])
    budget.begin(10.0)  # the run took 10 s to get here
    budget.spend(1.0)
    now[0] = 10.0  # 20 s of a run of 40 s: 1 s is spent, and another would be 2 of 2
    assert budget.allows(0.5) and not budget.allows(0.6)
    now[0] = 29.0
    assert not budget.allows(0.05) and budget.allows(0.5)
