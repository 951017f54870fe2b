"""The command evaluate: what people and programs read, and how it refuses."""

import csv
import io
import json
import sys

import pytest
from evaluated import FakeEngine, evaluation
from huggingface_hub import ModelCard
from run_files import set_state

from sft_ui.evaluation.words import interval, number
from trainer_backend.cli.results.evaluate import differences
from trainer_backend.data.store import open_dataset
from trainer_backend.evaluation import shown
from trainer_backend.evaluation.results import evaluations_of, keep
from trainer_backend.export.card import model_card
from trainer_backend.runs.checkpoints import commit

ENGINE = "trainer_backend.evaluation.engine.evaluate"


@pytest.fixture
def ended(run):
    for step in (2, 4):
        folder = run.dir / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        commit(folder, step, None, run.id)
    set_state(run, state="finished")
    return run


@pytest.fixture
def engine(monkeypatch):
    """The engine, played; no model is loaded."""
    fake = FakeEngine()
    monkeypatch.setitem(sys.modules, ENGINE, fake)
    return fake


def test_people_read_warnings_the_sentence_the_table_and_the_worst_rows(call, ended, engine):
    code, out, _ = call("evaluate", ended.id)
    assert code == 0
    told = out.splitlines()
    assert told[0] == "Warning: It learned its training rows by heart."
    assert told[1] == "Better: Exact match 12.5% → 50%."
    assert told[2] == "On 8 held-out rows of numbers, checkpoint 4."
    assert "Exact match  12.5% → 50%   +25 to +50 points" in told
    rows = [line for line in told if line.startswith("  row ")]
    assert rows == ["  row 3: Say 3", "  row 2: Say 2"], "the others are right"
    assert "    tuned     3! {+or so+}" in told
    [kept] = (ended.dir / "evaluations").glob("eval-*.json")
    assert told[-1] == f"Kept in {kept}"


def test_programs_read_the_contract_and_show_has_the_same_numbers(call, ended, engine):
    code, out, err = call("evaluate", ended.dir, "--json", "--rows", 5, "--metrics", "chrf")
    found = json.loads(out)
    assert code == 0 and err == ""
    assert engine.calls == [{"rows": 5, "dataset": None, "checkpoint": 4, "metrics": "chrf"}]
    assert (found["run"], found["checkpoint"], found["rows"]) == (ended.id, 4, 8)
    assert found["verdict"] == "better" and found["metrics"]["loss"]["better"] == "lower"
    assert found["metrics"]["exact_match"]["interval"] == [0.25, 0.5]
    assert set(found["examples"][0]) >= {"row", "prompt", "expected", "base", "tuned", "scores"}
    assert json.loads(call("show", ended.id, "--json")[1])["evaluations"] == [found]
    del found["examples"]
    assert json.loads(call("runs", "--json")[1])[0]["evaluations"] == [found]
    assert "evaluation  Better: Exact match 12.5% → 50%." in call("show", ended.id)[1]


def test_all_checkpoints_are_compared(call, ended, engine):
    code, out, _ = call("evaluate", ended.id, "--checkpoint", "all")
    assert code == 0 and "Checkpoint 2\n" in out and "Checkpoint 4\n" in out
    assert out.splitlines()[-1].split() == ["4", "50%", "3.25", "better"]
    code, out, _ = call("evaluate", ended.id, "--checkpoint", "all", "--json")
    assert [one["checkpoint"] for one in json.loads(out)] == [2, 4]


def test_answers_go_into_a_csv_file(call, ended, engine, tmp_path):
    path = tmp_path / "answers.csv"
    assert call("evaluate", ended.id, "--csv", path)[0] == 0
    with open(path, encoding="utf-8", newline="") as file:
        assert [row["exact_match_tuned"] for row in csv.DictReader(file)] == ["1", "0", "0", "1"]
    assert call("evaluate", ended.id, "--csv", path, "--checkpoint", "all")[0] == 2
    assert call("evaluate", ended.id, "--csv", tmp_path / "none" / "a.csv")[0] == 2
    assert len(engine.calls) == 1


def test_other_rows_are_read_as_check_reads_them(call, ended, engine, home, tmp_path):
    data = tmp_path / "own.csv"
    data.write_text("Frage;Antwort\nWie?;So.\nWann?;Jetzt.\n")
    columns = "prompt=Frage,completion=Antwort"
    options = ("--data", data, "--delimiter", ";", "--columns", columns, "--json")
    assert call("evaluate", ended.id, *options)[0] == 0
    assert open_dataset(home, engine.calls[0]["dataset"]).num_examples == 2


@pytest.mark.parametrize(
    "options, words",
    [
        (("--metrics", "rouge"), "Perhaps rouge_l is meant."),
        (("--checkpoint", "3"), "There is no checkpoint 3."),
        (("--rows", "0"), "not a number of rows"),
        (("--data", "no-such.csv"), "no-such.csv"),
    ],
)
def test_a_mistake_is_named_with_exit_code_2(call, ended, engine, options, words):
    code, _, err = call("evaluate", ended.id, *options)
    assert code == 2 and words in err and engine.calls == []


def test_who_trains_meanwhile_is_told(call, ended, engine, home, dataset):
    from trainer_backend.recipe.recipe import Recipe
    from trainer_backend.runs.create import create_run

    other = create_run(home, Recipe(max_steps=4), dataset, name="Other")
    set_state(other, state="running")
    assert "“Other” trains meanwhile" in call("evaluate", ended.id)[2]


@pytest.mark.parametrize(
    "expected, given, marked",
    [
        ("a b c", "a b c", "a b c"),
        ("a b c", "a x c d", "a [-b-] {+x+} c {+d+}"),
        ("a", " ", "(nothing)"),
        ("a", "b " * 300, "b " * 200 + "… (599 characters)"),
    ],
)
def test_differences_are_marked_word_by_word(expected, given, marked):
    assert differences(expected, given) == marked


def test_numbers_of_lm_eval_stand_beside_ours(call, ended, engine, monkeypatch):
    given = {"arc": {"acc": {"base": 0.25, "tuned": 0.5, "stderr": 0.125}}}
    one = evaluation(ended, harness=given)
    keep(ended, one)
    monkeypatch.setattr(engine, "evaluate_run", lambda run, **options: one)
    out = call("evaluate", ended.id)[1]
    assert "arc acc  0.2500 → 0.5000  ± 0.1250" in out


def test_page_terminal_card_csv_and_json_have_one_set_of_numbers(call, ended, engine):
    """Each place shows the words of one function, and the files have the values behind them."""
    out, one = call("evaluate", ended.id)[1], evaluations_of(ended)[0]
    card = model_card(ended, "adapter", "adapter")
    data = {each.metric_type: each.metric_value for each in ModelCard(card).data.eval_results}
    for line in shown.lines(one):
        pair = f"{line.base} → {line.tuned}"
        assert pair in out and f"| {line.base} | {line.tuned} | {line.interval} |" in card
        metric = one.metrics[line.name]
        assert data[line.name] == metric.tuned
        assert (number(line.name, metric.base), number(line.name, metric.tuned)) == (
            line.base,
            line.tuned,
        ), "the page"
        assert interval(line.name, metric) == line.interval, "the page"
    answers = list(csv.DictReader(io.StringIO(shown.answers_csv(one))))
    assert [float(row["exact_match_tuned"]) for row in answers] == [
        asked.scores["exact_match"]["tuned"] for asked in one.examples
    ]
