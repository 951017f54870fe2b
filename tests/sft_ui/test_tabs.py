"""The tabs' handlers as plain functions: data, model, train, chat, runs."""

import pytest

from sft_ui import chat_tab, data_tab, model_tab, runs_tab, train_tab
from sft_ui.column_roles import ROLE_WORDS, ROLES_OF, read_mapping, shown_for, visible_for
from sft_ui.recipe_form import form_values
from trainer_backend.checkpoints import commit
from trainer_backend.data.formats import FORMATS, ROLE_NAMES
from trainer_backend.data.store import create_from_rows, remap_dataset
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.recipe import Recipe

VALUES = form_values(Recipe(max_steps=5))


def enter(run, state):
    write_json(run.dir / "state.json", {**run.state(), "state": state})


def keep_checkpoint(run, step=4):
    folder = run.dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    commit(folder, step, 0.5)


def test_typed_rows_leave_out_empty_ones():
    grid = [["a", "b"], ["", " "], [None, None], ["c", None]]
    assert data_tab.typed_rows(grid) == [
        {"prompt": "a", "response": "b"},
        {"prompt": "c", "response": ""},
    ]
    assert data_tab.typed_rows(None) == []


def test_pasted_cells_are_read_as_a_spreadsheet_copies_them():
    text = 'a\t1\n"two\nlines"\t2\textra\nalone\n'
    assert data_tab.pasted_cells(text) == [["a", "1"], ["two\nlines", "2"], ["alone", ""]]
    assert data_tab.pasted_cells(None) == []


def test_a_page_has_25_rows_and_says_where_it_is(studio, dataset):
    table, where, start = data_tab.show_page(studio, dataset.id, 0, "", -1, None)
    assert table.count("<tr data-pick") == 25 and "Rows 1 to 25 of 60" in where and start == 0


@pytest.mark.parametrize("start, first", [(50, 50), (75, 50), (-25, 0), (10_000, 50)])
def test_turning_pages_never_leaves_the_data(studio, dataset, start, first):
    assert data_tab.show_page(studio, dataset.id, start, "", -1, None)[2] == first


def test_search_and_problem_filter(studio, home):
    rows = [{"prompt": f"p{n}", "response": "" if n == 3 else "r"} for n in range(9)]
    dataset = create_from_rows(home, rows, name="One empty answer")
    index = next(n for n, problem in enumerate(dataset.problems) if problem.rows)
    table, where, _ = data_tab.show_page(studio, dataset.id, 0, "", index, None)
    assert "Rows 1 to 1 of 1" in where and "p3" in table
    assert "No rows" in data_tab.show_page(studio, dataset.id, 0, "absent", -1, None)[1]


def test_an_unknown_dataset_is_refused(studio):
    with pytest.raises(UserError):
        data_tab.show_page(studio, "../../etc/passwd", 0, "", -1, None)


def test_every_role_of_every_format_has_a_picker():
    assert set(ROLES_OF) == set(FORMATS)
    assert all(set(FORMATS[name]) <= set(ROLES_OF[name]) for name in FORMATS)
    assert set(ROLE_WORDS) == set(ROLE_NAMES)


def test_the_user_decides_when_columns_are_unclear(studio, home):
    rows = [{"left": f"l{n}", "right": f"r{n}"} for n in range(30)]
    dataset = create_from_rows(home, rows, name="Unclear")
    assert not dataset.sure and shown_for(dataset)[0]["open"] is True
    assert "columns" in train_tab.missing(studio, dataset.id, VALUES)
    mapping = read_mapping(
        "prompt_completion", {"prompt": "left", "completion": "right", "text": "x"}
    )
    chosen = remap_dataset(home, dataset.id, mapping)
    assert chosen.num_examples == 30 and train_tab.missing(studio, chosen.id, VALUES) == ""
    shown = visible_for("text")
    assert [u["visible"] for u in shown] == [role == "text" for role in ROLE_WORDS]


def test_start_names_what_is_missing(studio, dataset):
    assert train_tab.missing(studio, "", VALUES) == "Choose data first"
    assert train_tab.missing(studio, "ds-gone", VALUES) == "Choose data first"
    wrong = {**VALUES, "learning_rate": "abc"}
    assert train_tab.missing(studio, dataset.id, wrong) == "Correct Learning rate first"
    button, card = train_tab.start_state(studio, dataset.id, "quick_try", VALUES)
    assert button["interactive"] is True and "Start training" in button["value"] and "Sixty" in card


def test_starting_twice_with_one_key_is_one_run(studio, dataset):
    first = train_tab.start_run(studio, dataset.id, "quick_try", "key", VALUES)
    again = train_tab.start_run(studio, dataset.id, "quick_try", "key", VALUES)
    other = train_tab.start_run(studio, dataset.id, "quick_try", "other", VALUES)
    assert first.id == again.id != other.id
    assert first.recipe().max_steps == 5 and first.spec()["preset"] == "quick_try"


def test_a_wrong_form_starts_nothing(studio, dataset):
    with pytest.raises(UserError):
        train_tab.start_run(studio, dataset.id, "x", "", {**VALUES, "max_length": "1e99"})
    assert studio.scheduler.calls == []


@pytest.mark.parametrize(
    "state, can_stop, can_resume",
    [("queued", 1, 0), ("running", 1, 0), ("paused", 0, 1), ("failed", 0, 1), ("finished", 0, 0)],
)
def test_buttons_follow_the_state(studio, run, state, can_stop, can_resume):
    enter(run, state)
    stop, resume, talk, card = train_tab.run_buttons(studio, run.id)
    assert (stop["interactive"], resume["interactive"]) == (bool(can_stop), bool(can_resume))
    assert talk["interactive"] is False and "A run" in card


def test_estimate_shows_batch_steps_and_differences(studio, dataset):
    values = form_values(Recipe(num_train_epochs=2, gradient_accumulation_steps=2))
    html = model_tab.estimate(studio, dataset.id, "balanced", values)
    assert "8 × 2 = 16" in html and "settings differ from the preset" in html and "GB" in html
    wrong = model_tab.estimate(studio, dataset.id, "balanced", {**values, "lora_r": -1})
    assert "Size of the add-on" in wrong


def test_chat_offers_runs_with_a_model(studio, run):
    choices = chat_tab.chat_choices(studio, "a/base-model", None)
    assert [value for _, value in choices["choices"]] == ["model:a/base-model"]
    keep_checkpoint(run)
    choices = chat_tab.chat_choices(studio, "a/base-model", None)
    assert choices["value"] == run.id
    checkpoints, system = chat_tab.run_choices(studio, run.id)
    assert checkpoints["choices"] == [("Newest", -1), ("Step 4 · eval loss 0.500", 4)]
    assert system == ""


def test_the_runs_table_shows_and_hides_the_panel(studio, run):
    table, panel, name, confirm, code = runs_tab.show_runs(studio, run.id)
    assert run.id in table and panel["visible"] and name == "A run" and not confirm["visible"]
    assert "AutoPeftModelForCausalLM" in code
    assert runs_tab.show_runs(studio, "run-gone")[1]["visible"] is False
    assert "No runs yet" in runs_tab.runs_table([], "")


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_the_snippet_is_python_with_the_system_prompt(kind):
    text = runs_tab.snippet(Recipe(system_prompt='Say "hi" {now}'), kind)
    compile(text, kind, "exec")
    assert 'Say "hi" {now}' in text
