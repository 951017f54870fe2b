"""The process that asks lm-eval: its progress, its reply, its failures; and the real package."""

import importlib.util
import json
import os

import pytest
from evaluated import evaluation

from trainer_backend.errors import UserError
from trainer_backend.evaluation.harness import ask
from trainer_backend.evaluation.results import evaluations_of, keep

FOUND = {"arc": {"acc": {"base": 0.25, "tuned": 0.5, "stderr": 0.125}}}
PLAYED = """
import json, os, sys, time
folder = sys.argv[1]
with open(folder + "/side.json", "w") as file:
    json.dump({"what": "lm-eval asks the base model"}, file)
print("Running requests:  42%|####", flush=True)
asked = json.load(open(folder + "/request.json"))
time.sleep(0.2)
if asked["tasks"] == ["crash"]:
    sys.exit("ValueError: it will not")
reply = {"results": FOUND}
if asked["tasks"] == ["offline"]:
    reply = {"results": {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE",)}}
with open(folder + "/reply.json", "w") as file:
    json.dump(reply, file)
"""
TASK = """
task: say_numbers
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
doc_to_choice: choices
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def played(monkeypatch, tmp_path):
    """A process in place of the one that loads models, and lm-eval as if it were installed."""
    folder = tmp_path / "played"
    folder.mkdir()
    (folder / "played_harness.py").write_text(PLAYED.replace("FOUND", repr(FOUND)))
    (folder / "lm_eval.py").write_text("")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(ask, "MODULE", "played_harness")
    monkeypatch.setattr(ask, "POLL_S", 0.02)


def test_without_the_package_it_is_said_how_to_get_it(call, finished, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = call("evaluate", finished.id, "--harness", "arc")
    assert code == 2 and "pip install 'sft-studio[harness]'" in err
    assert call("evaluate", finished.id, "--harness", " , ")[0] == 2


def test_its_numbers_are_kept_beside_ours(call, finished, played):
    keep(finished, evaluation(finished))
    code, out, _ = call("evaluate", finished.id, "--harness", "arc", "--json")
    assert code == 0 and json.loads(out)["harness"] == FOUND
    kept = evaluations_of(finished)
    assert len(kept) == 1 and kept[0].harness == FOUND and kept[0].main == "exact_match"
    assert (
        "arc acc  0.2500 → 0.5000  ± 0.1250" in call("evaluate", finished.id, "--harness", "arc")[1]
    )
    assert list((finished.home / "tmp").glob("harness-*")) == []


def test_progress_failure_and_being_offline(finished, played, monkeypatch):
    told = []

    def show(what, done, total, unit, words=""):
        told.append((what, done, total, unit))

    assert ask.ask_harness(finished, 4, ["arc"], progress=show) == FOUND
    assert ("lm-eval asks the base model", 42, 100, "%") in told
    with pytest.raises(UserError) as caught:
        ask.ask_harness(finished, 4, ["crash"])
    assert "exit code 1" in caught.value.what and "it will not" in caught.value.where
    with pytest.raises(UserError, match="There is no checkpoint 3"):
        ask.ask_harness(finished, 3, ["arc"])
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(ask, "within_reach", lambda question, where: question())
    assert ask.ask_harness(finished, 4, ["offline"]) == {"HF_HUB_OFFLINE": None}

    def silent(question, where):
        raise UserError("The Hub cannot be reached.", where, "Try again.")

    monkeypatch.setattr(ask, "within_reach", silent)
    assert ask.ask_harness(finished, 4, ["offline"]) == {"HF_HUB_OFFLINE": "1"}
    with pytest.raises(UserError, match="no such file"):
        ask.ask_harness(finished, 4, ["no-such.yaml"])


def test_a_stopped_one_leaves_no_process(finished, played):
    def stop(what, done, total, unit, words=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask.ask_harness(finished, 4, ["arc"], progress=stop)
    assert list((finished.home / "tmp").glob("harness-*")) == []


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-eval")
def test_the_real_package_runs_a_task_of_this_machine(call, finished, tmp_path):
    data = tmp_path / "questions.jsonl"
    rows = [{"question": f"Say {n}", "choices": [f"{n}!", "x"], "answer": 0} for n in range(8)]
    data.write_text("\n".join(map(json.dumps, rows)))
    task = tmp_path / "say.yaml"
    task.write_text(TASK.format(data=data))
    keep(finished, evaluation(finished))
    code, out, err = call("evaluate", finished.id, "--harness", task, "--rows", 4, "--json")
    assert code == 0, err
    found = json.loads(out)["harness"]["say_numbers"]["acc"]
    assert found["rows"] == 4 and 0 <= found["base"] <= 1 and found["stderr"] is not None
    code, _, err = call("evaluate", finished.id, "--harness", "hellaswag")
    assert code == 2 and "not on this machine" in err
