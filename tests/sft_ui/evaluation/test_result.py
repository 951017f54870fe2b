"""The result of a run as the page asks for it, and evaluations started there."""

import csv
import io
import threading
from dataclasses import replace

import gradio as gr
import pytest
from evaluated import evaluation
from run_files import set_state

from sft_ui.evaluation.result import build_result
from sft_ui.train.run_feed import RunFeed
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import keep
from trainer_backend.runs.checkpoints import commit


@pytest.fixture
def ended(run):
    folder = run.dir / "checkpoints" / "checkpoint-4"
    folder.mkdir(parents=True)
    commit(folder, 4, 1.25, run.id)
    set_state(run, state="finished", step=4, num_eval_rows=12)
    return run


@pytest.fixture
def ask(studio, ended):
    """Call an endpoint of the component, as its script does."""
    with gr.Blocks():
        endpoints = {one.__name__: one for one in build_result(studio).server_fns}
    return lambda name, **given: endpoints[name]({"run": ended.id, **given})


def test_the_newest_on_held_out_rows_is_shown_first(ask, ended):
    old, new = (
        evaluation(ended, created_at=at, verdict=v) for at, v in ((1, "worse"), (2, "better"))
    )
    other = evaluation(ended, created_at=3, held_out=False, dataset="mails")
    for one in (old, new, other):
        keep(ended, one)
    answer = ask("result_of_run")
    assert [one["id"] for one in answer["evaluations"]] == [new.id, old.id, other.id]
    assert answer["shown"]["id"] == new.id and answer["shown"]["tone"] == "good"
    assert ask("result_of_run", evaluation=old.id)["shown"]["verdict"] == "✗ Worse"
    assert "mails (8 rows)" in answer["evaluations"][2]["label"]


def test_the_head_says_the_numbers_as_every_other_place_does(ask, ended):
    keep(ended, evaluation(ended))
    head = ask("result_of_run")["shown"]
    assert head["warnings"] == ["It learned its training rows by heart."]
    main = head["main"]
    assert (main["base"], main["tuned"], main["interval"]) == ("12.5%", "50%", "+25 to +50 points")
    assert (main["base_count"], main["tuned_count"]) == ("1 of 8", "4 of 8")
    assert [(one["name"], one["tuned"]) for one in head["others"]] == [("token_f1", "0.62")]
    assert [(one["name"], one["base"], one["tuned"]) for one in head["losses"]] == [
        ("loss", "2.5", "3.25")
    ]
    assert head["facts"][0] == "8 held-out rows of numbers, checkpoint 4"


def test_the_csv_has_the_kept_numbers_and_is_safe_in_a_spreadsheet(ask, ended):
    kept = evaluation(ended)
    exact = replace(kept.examples[0], scores={"exact_match": {"base": 0.1, "tuned": 1 / 3}})
    kept = replace(kept, examples=[exact, *kept.examples[1:]])
    keep(ended, kept)
    file = ask("csv_of_result", evaluation=kept.id)
    rows = list(csv.DictReader(io.StringIO(file["text"])))
    assert len(rows) == 4 and rows[0]["base"] == "'=no"
    assert float(rows[0]["exact_match_tuned"]) == kept.examples[0].scores["exact_match"]["tuned"]
    assert file["name"].endswith(".csv")


def test_a_run_of_an_earlier_version_shows_the_answers_it_has(ask, ended, hostile):
    example = {"prompt": hostile, "expected": "a", "base": "b", "tuned": "a", "images": 2}
    answers = {"rows": 3, "base": 0.0, "tuned": 1 / 3}
    set_state(ended, answers={**answers, "examples": [{**example, "tuned_reasoning": "hm"}]})
    head = ask("result_of_run")["shown"]
    assert head["sentence"].endswith("base model 0 of 3, tuned model 1 of 3.")
    assert (head["main"]["tuned"], head["main"]["interval"], head["verdict"]) == ("33.3%", "", "")
    assert any("Of the 3 rows the first 1 are kept." in note for note in head["notes"])
    (row,) = ask("rows_of_result", evaluation="answers")["rows"]
    assert row["prompt"] == hostile  # text, which the browser sets as text
    assert row["scores"]["tuned"]["text"] == "match" and row["marks"]["prompt"] == [
        "with 2 pictures"
    ]
    assert ask("row_of_result", evaluation="answers", at=0)["reasoning"]["tuned"] == "hm"
    keep(ended, evaluation(ended))
    assert [one["id"] for one in ask("result_of_run")["evaluations"]] != ["answers"]


def test_what_is_gone_or_wrong_is_said_in_words(ask, ended):
    assert ask("result_of_run", run="run-nonsense")["error"]["what"]
    assert ask("rows_of_result", evaluation="eval-1")["error"]["what"] == "This evaluation is gone."
    keep(ended, one := evaluation(ended))
    assert "row" in ask("row_of_result", evaluation=one.id, at=99)["error"]["what"]
    assert ask("evaluate_run", rows="501")["error"]["fix"] == "Enter 1 to 500."
    assert ask("evaluate_run", checkpoint="3")["error"]["what"] == "There is no checkpoint 3."
    assert ask("evaluate_run", data="../../etc")["error"]["what"]
    set_state(ended, state="running")
    assert "still training" in ask("evaluate_run")["error"]["what"]
    assert ask("result_of_run")["choices"]["can"] is False


def test_the_form_offers_data_and_checkpoints(ask, dataset):
    choices = ask("result_of_run")["choices"]
    assert [one["value"] for one in choices["data"]] == ["", dataset.id]
    assert choices["data"][0]["words"] == "Held-out rows of this run (12)"
    assert choices["checkpoints"][1]["words"] == "Step 4 · eval loss 1.25"
    assert choices["can"] and "exact_match" in [one["value"] for one in choices["measures"]]


class Evaluating:
    """A model process that goes on when it is told to."""

    def __init__(self, run, error=None):
        self.run, self.error = run, error
        self.go, self.closed, self.asked = threading.Event(), threading.Event(), []

    def evaluate(self, run_id, **options):
        self.asked.append((run_id, options))
        try:
            for done in range(1, 50):
                facts = {"what": "Asking the base model", "done": done, "total": 40, "unit": ""}
                yield {"progress": {**facts, "unit": "answers"}}
                if self.go.wait(0.02):
                    break
            if self.error:
                raise self.error
            found = evaluation(self.run)
            keep(self.run, found)
            yield {"evaluation": found.to_dict()}
        finally:
            self.closed.set()


def told(ask, condition):
    """What is told of the evaluation once the condition holds."""
    for _ in range(500):
        now = ask("evaluation_under_way")["under_way"]
        if condition(now):
            return now
        threading.Event().wait(0.01)
    raise AssertionError(now)


def use(studio, model):
    studio.model_process.evaluate = model.evaluate
    return model


def test_an_evaluation_is_started_watched_and_kept(studio, ask, ended, dataset):
    model = use(studio, Evaluating(ended))
    stamp = RunFeed(ended).since({}, lambda run_id: 1)["stamp"]
    assert ask("evaluation_under_way")["under_way"] is None
    ask("evaluate_run", data=dataset.id, rows="12", checkpoint="4", measures=["chrf"])
    given = {"dataset_id": dataset.id, "rows": "12", "checkpoint": "4", "metrics": ["chrf"]}
    now = told(ask, lambda now: now["share"])
    assert now["words"].startswith("Asking the base model: ") and "of 40 answers" in now["words"]
    assert "is being evaluated" in ask("evaluate_run")["error"]["what"]
    model.go.set()
    end = told(ask, lambda now: now["over"])
    assert model.asked == [(ended.id, given)]
    assert ask("result_of_run")["shown"]["id"] == end["done"] and end["error"] is None
    assert RunFeed(ended).since({}, lambda run_id: 1)["stamp"] != stamp  # other pages hear of it


def test_an_evaluation_can_be_stopped(studio, ask, ended):
    model = use(studio, Evaluating(ended))
    ask("evaluate_run")
    told(ask, lambda now: now["share"])
    assert ask("stop_evaluation")["under_way"]["words"].startswith("Stopping")
    end = told(ask, lambda now: now["over"])
    assert model.closed.is_set() and (end["done"], end["error"]) == ("", None)
    assert ask("result_of_run")["shown"] is None


def test_an_evaluation_that_fails_says_why(studio, ask, ended):
    model = use(studio, Evaluating(ended, UserError("Memory ran out.", "here", "Ask fewer rows.")))
    model.go.set()
    ask("evaluate_run")
    assert told(ask, lambda now: now["over"])["error"]["what"] == "Memory ran out."
