"""Runs whose template omits content or refuses rows: asked about, decided, named by the file."""

import json

import pytest
from conftest import CHATML, build_model, build_tokenizer
from small_runs import small_run, train_small

from trainer_backend.data.store.mixes import mix_datasets
from trainer_backend.data.store.uploads import create_dataset
from trainer_backend.runs.create import retry_run
from trainer_backend.worker.main import run_worker

CALL = {"type": "function", "function": {"name": "get_rate", "arguments": {"cur": "C"}}}
STRICT = (
    "{% for m in messages %}{% if m['content'] == 'Once' %}{{ raise_exception('No tales here') }}"
    "{% endif %}{% endfor %}" + CHATML
)


def plain(at: int) -> list[dict]:
    return [
        {"role": "user", "content": f"Say {at}"},
        {"role": "assistant", "content": f"{at}!"},
    ]


def called(at: int) -> list[dict]:
    asked, answered = plain(at)
    return [
        asked,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "7"},
        answered,
    ]


def store(home, folder, talks: dict[int, list], count: int = 30, name: str = "talks.jsonl"):
    """`count` plain rows after one that cannot be used; `talks` replace some, by row number."""
    rows = [{"messages": [{"role": "user", "content": "no answer"}]}]
    rows += [{"messages": talks.get(at, plain(at))} for at in range(2, count + 1)]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return create_dataset(home, path)


@pytest.fixture(scope="module")
def strict_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strict")
    build_model().save_pretrained(folder)
    build_tokenizer(STRICT).save_pretrained(folder)
    return folder


def test_a_run_that_would_lose_its_calls_asks_and_a_choice_trains(home, tmp_path, tiny_model_dir):
    stored = store(home, tmp_path, {at: called(at) for at in (3, 9, 20)})
    run = small_run(home, stored, tiny_model_dir, max_steps=2)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert error["code"] == "content_lost" and error["user"]
    assert error["where"] == "talks.jsonl, rows 3, 9 and 20"
    choices = error["offer"]["choices"]
    assert {"lost_content": "train_without"} in choices and {"lost_content": "leave_out"} in choices
    assert run.summary()["content"]["lost"]["calls"] == {"rows": 3, "first": [3, 9, 20]}

    without = retry_run(run, {"lost_content": "train_without"}, foreground=True)
    assert run_worker(without.dir) == 0
    (warning,) = without.state()["warnings"]
    assert "none of the tool calls of rows 3, 9 and 20" in warning
    assert without.spec()["recipe"]["lost_content"] == "train_without"
    assert without.summary()["content"]["decision"] == "train_without"


def test_rows_that_lose_content_are_left_out_counted_and_said(home, tmp_path, tiny_model_dir):
    stored = store(home, tmp_path, {at: called(at) for at in (3, 9, 20)})
    run = train_small(home, stored, tiny_model_dir, max_steps=2, lost_content="leave_out")
    state = run.state()
    assert state["num_train_rows"] + state["num_eval_rows"] == stored.num_examples - 3
    (warning,) = state["warnings"]
    assert warning.startswith("Rows 3, 9 and 20 are left out") and "tool calls" in warning
    assert state["content"]["left_out"] == {"rows": 3, "first": [3, 9, 20]}


def test_refused_rows_are_named_by_the_file_all_at_once_with_an_offer(home, tmp_path, strict_model):
    told = [{"role": "user", "content": "Once"}, plain(1)[1]]
    stored = store(home, tmp_path, dict.fromkeys(range(12, 26), told))
    run = small_run(home, stored, strict_model, max_steps=2)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert error["code"] == "rows_refused" and "No tales here" in error["what"]
    assert "rows 12, 13, 14, 15, 16 and 9 more" in error["where"]  # held-out rows among them
    again = retry_run(run, foreground=True)
    assert again.recipe().lost_content == "leave_out" and run_worker(again.dir) == 0
    assert again.state()["content"]["refused"]["first"] == list(range(12, 26))


def test_rows_of_a_mix_are_named_with_the_file_they_came_from(home, tmp_path, tiny_model_dir):
    first = store(home, tmp_path, {}, 30, "plain.jsonl")
    second = store(home, tmp_path, {4: called(4)}, 30, "calls.jsonl")
    mixed = mix_datasets(home, [(first.id, 1), (second.id, 1)], name="both", seed=1)
    run = small_run(home, mixed, tiny_model_dir, max_steps=2)
    assert run_worker(run.dir) == 2
    assert "row 4 of calls.jsonl" in run.state()["error"]["where"]


def test_an_earlier_run_goes_on_as_it_began(home, tmp_path, tiny_model_dir):
    stored = store(home, tmp_path, {at: called(at) for at in (3, 9, 20)})
    run = small_run(home, stored, tiny_model_dir, max_steps=2)
    spec = json.loads((run.dir / "spec.json").read_text())
    del spec["began_format"]
    for name in ("chat_template", "thinking", "eos_token", "control_tokens", "lost_content"):
        del spec["recipe"][name]
    (run.dir / "spec.json").write_text(json.dumps({**spec, "format_version": 2}))
    assert run.recipe().lost_content == "train_without"
    assert run.recipe().control_tokens == "tokens"
    assert run_worker(run.dir) == 0


def test_the_terminal_offers_every_choice_and_leaves_with_two(tmp_path, tiny_model_dir, call, home):
    path = tmp_path / "calls.jsonl"
    path.write_text("".join(json.dumps({"messages": called(at)}) + "\n" for at in range(20)))
    code, out, _ = call("check", path, "--model", tiny_model_dir, "--json")
    (lost,) = [one for one in json.loads(out)["problems"] if one["code"] == "calls_lost"]
    assert code == 0 and lost["severity"] == "error" and lost["count"] == 20
    assert {"lost_content": "train_without"} in lost["choices"]
    code, out, _ = call("check", path, "--model", tiny_model_dir)
    assert "Decide with: train --set" in out and "--set lost_content=train_without" in out
    changed = ("--set", "lost_content=train_without", "--json")
    _, out, _ = call("check", path, "--model", tiny_model_dir, *changed)
    (decided,) = [one for one in json.loads(out)["problems"] if one["code"] == "calls_lost"]
    assert decided["severity"] == "warning"


def test_check_leaves_with_two_when_no_row_can_be_learned(tmp_path, strict_model, call):
    path = tmp_path / "told.jsonl"
    told = [{"role": "user", "content": "Once"}, plain(1)[1]]
    path.write_text("".join(json.dumps({"messages": told}) + "\n" for _ in range(9)))
    code, out, _ = call("check", path, "--model", strict_model, "--json")
    assert code == 2 and json.loads(out)["tokens"]["rows_learned"] == 0
    assert "No row can be trained on" in call("check", path, "--model", strict_model)[1]
