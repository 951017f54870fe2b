"""Versions: fixes and edits change what they should and nothing else, and the upload stays."""

import json

import pytest

from trainer_backend.data.formats.mapping import ColumnMapping
from trainer_backend.data.store.dataset import list_datasets, open_dataset
from trainer_backend.data.store.uploads import create_dataset, create_from_rows, remap_dataset
from trainer_backend.data.store.versions import apply_fixes, done_sentence, edit_rows
from trainer_backend.errors import UserError


def pairs(count: int) -> list[dict]:
    return [
        {"prompt": f"What is {at} times {at}?", "response": f"It is {at * at}, as one counts."}
        for at in range(1, count + 1)
    ]


@pytest.fixture
def messy(home):
    """30 rows: 11 repeats 10, 12 and 13 end in spaces, 14 holds a control character."""
    rows = pairs(30)
    rows[10] = rows[9]
    rows[11]["response"] += "  \n"
    rows[12]["response"] = "\t" + rows[12]["response"]
    rows[13]["prompt"] += "\x1b"
    return create_from_rows(home, rows, name="messy")


def rows_of(dataset) -> dict[int, dict]:
    return dict(dataset.page(0, 1_000)[0])


def test_fixes_change_their_rows_and_no_other(home, messy):
    before = rows_of(messy)
    fixes = {"duplicates": "keep_one", "outer_space": "trim", "control_characters": "clean"}
    codes = {problem.code for problem in messy.problems}
    fixed = apply_fixes(home, messy.id, {code: fixes[code] for code in fixes if code in codes})
    after = rows_of(fixed)
    assert fixes.keys() <= codes
    assert before.keys() - after.keys() == {11}
    changed = {row for row in after if after[row] != before[row]}
    assert changed == {12, 13, 14}
    assert after[12]["response"] == before[12]["response"].strip()
    assert after[13]["response"] == before[13]["response"].strip()
    assert after[14]["prompt"] == before[14]["prompt"].replace("\x1b", "")
    assert fixed.done == "1 row left out, 2 trimmed, 1 cleaned."
    assert fixed.fixes == fixes and fixed.parent == messy.id and fixed.step == "fixes"
    assert not fixes.keys() & {problem.code for problem in fixed.problems}


def test_the_upload_is_untouched_and_the_same_fix_is_the_same_version(home, messy):
    before = {path.name: path.read_bytes() for path in messy.dir.iterdir()}
    fixed = apply_fixes(home, messy.id, {"duplicates": "keep_one"})
    again = apply_fixes(home, messy.id, {"duplicates": "keep_one"})
    assert again == fixed and fixed.id != messy.id and fixed.hash != messy.hash
    assert {path.name: path.read_bytes() for path in messy.dir.iterdir()} == before
    assert len(list_datasets(home)) == 2


def test_rows_keep_the_numbers_of_the_upload(home, messy):
    fixed = apply_fixes(home, messy.id, {"duplicates": "keep_one"})
    assert [row for row, _ in fixed.page(9, 3)[0]] == [10, 12, 13]
    assert fixed.example(11) is None and fixed.example(12).row == 12
    assert fixed.page(0, 5, rows_only=[11, 12])[0][0][0] == 12
    assert fixed.place_of(12) == 10 and fixed.place_of(11) is None
    assert fixed.rows_of_code("outer_space") == [12, 13]


@pytest.mark.parametrize(
    ("fixes", "what"),
    [
        ({}, "No fix is chosen"),
        ({"duplicates": "trim"}, "cannot be fixed by"),
        ({"no_such": "drop"}, "There is no fix for"),
        ({"duplicates": "../x"}, "cannot be fixed by"),
    ],
)
def test_fixes_that_are_not_on_offer_are_refused(home, messy, fixes, what):
    with pytest.raises(UserError, match=what):
        apply_fixes(home, messy.id, fixes)
    assert len(list_datasets(home)) == 1


def test_rows_may_be_named_for_findings_that_are_not_stored(home, messy):
    fixed = apply_fixes(home, messy.id, {"over_length": "drop"}, rows={"over_length": [3, 1]})
    assert fixed.num_rows == 28 and fixed.page(0, 1)[0][0][0] == 2
    with pytest.raises(UserError, match="no row to fix"):
        apply_fixes(home, messy.id, {"over_length": "drop"}, rows={"over_length": []})


def test_a_fix_that_leaves_nothing_is_refused(home):
    dataset = create_from_rows(home, pairs(3), name="three")
    with pytest.raises(UserError):
        apply_fixes(home, dataset.id, {"x": "drop"}, rows={"x": [1, 2, 3]})
    assert [one.id for one in list_datasets(home)] == [dataset.id]


def test_messages_are_trimmed_inside_and_json_text_stays_json_text(home, tmp_path):
    turns = [
        {"role": "user", "content": " hello "},
        {"role": "assistant", "content": " Hello, what can I do for you? "},
    ]
    rows = [{"messages": turns, "note": " n "}, {"messages": json.dumps(turns), "note": " n "}]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = create_dataset(home, path)
    fixed = apply_fixes(home, dataset.id, {"outer_space": "trim"})
    for row in (1, 2):
        said = fixed.example(row).messages
        assert said[0]["content"] == " hello " and said[1]["content"] == turns[1]["content"].strip()
    lines = dict(fixed.page(0)[0])
    assert lines[1]["note"] == " n " and lines[2]["messages"].startswith("[{")


def test_cells_are_edited_and_rows_dropped(home, messy):
    edits = {3: {"response": "Nine, of course."}, "5": {"prompt": "five?"}}
    edited = edit_rows(home, messy.id, edits=edits, drops=[1, 5])
    after = rows_of(edited)
    assert after.keys() == set(range(2, 31)) - {5}
    assert after[3] == {"prompt": "What is 3 times 3?", "response": "Nine, of course."}
    assert edited.done == "2 rows left out, 1 edited." and edited.step == "edits"
    assert rows_of(messy)[3]["response"] == "It is 9, as one counts."
    assert edit_rows(home, messy.id, edits=edits, drops=[5, 1]).id == edited.id


def test_a_cell_that_was_json_stays_json(home, tmp_path):
    path = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    dataset = create_dataset(home, path)
    turns[1]["content"] = "c"
    edited = edit_rows(home, dataset.id, edits={1: {"messages": json.dumps(turns)}})
    assert edited.example(1).messages == turns
    with pytest.raises(UserError, match="row 1, column “messages”"):
        edit_rows(home, dataset.id, edits={1: {"messages": "[{"}})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"drops": [31]},
        {"drops": [0]},
        {"edits": {99: {"prompt": "x"}}},
        {"edits": {1: {"gone": "x"}}},
        {"edits": {1: {"prompt": "a\0b"}}},
        {"edits": {1: {"prompt": "\ud83d"}}},
        {"edits": {"x": {"prompt": "b"}}},
        {"drops": ["-1"]},
        {"drops": range(1, 31)},
    ],
)
def test_impossible_edits_are_refused(home, messy, change):
    with pytest.raises(UserError) as caught:
        edit_rows(home, messy.id, **change)
    assert caught.value.fix and len(list_datasets(home)) == 1


def test_lineage_lists_every_step_from_the_upload_on(home, messy):
    mapped = remap_dataset(
        home,
        messy.id,
        ColumnMapping("prompt_completion", {"prompt": "response", "completion": "prompt"}),
        system_prompt="Ask.",
    )
    fixed = apply_fixes(home, mapped.id, {"duplicates": "keep_one"})
    edited = edit_rows(home, fixed.id, drops=[30])
    steps = edited.lineage()
    assert [one["step"] for one in steps] == ["upload", "mapping", "fixes", "edits"]
    assert [one["id"] for one in steps] == [messy.id, mapped.id, fixed.id, edited.id]
    assert [one["here"] for one in steps] == [False, False, False, True]
    assert steps[2]["done"] == "1 row left out." and steps[3]["rows"] == 28
    assert edited.label == "messy, version 4" and messy.label == "messy"
    assert edited.parent_version() == fixed and messy.parent_version() is None
    assert edited.example(1).messages[0] == {"role": "system", "content": "Ask."}


def test_a_second_choice_of_columns_takes_the_place_of_the_first(home, messy):
    swapped = ColumnMapping("prompt_completion", {"prompt": "response", "completion": "prompt"})
    text = ColumnMapping("text", {"text": "prompt"})
    first = remap_dataset(home, messy.id, swapped)
    second = remap_dataset(home, first.id, text)
    assert second.parent == messy.id and second == remap_dataset(home, messy.id, text)
    assert remap_dataset(home, first.id, swapped) == first
    fixed = apply_fixes(home, messy.id, {"duplicates": "keep_one"})
    late = remap_dataset(home, fixed.id, text)
    assert late.parent == fixed.id and late.id != second.id and late.num_rows == 29


def test_the_lineage_of_a_version_whose_parent_was_deleted_begins_with_it(home, messy):
    from trainer_backend.runs.dataset_use import delete_dataset

    edited = edit_rows(home, messy.id, drops=[30])
    delete_dataset(home, messy.id)
    assert [one["id"] for one in open_dataset(home, edited.id).lineage()] == [edited.id]
    assert edited.page(0)[1] == 29 and edited.parent_version() is None


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({"left out": 24, "trimmed": 3}, "24 rows left out, 3 trimmed."),
        ({"left out": 0, "trimmed": 1}, "1 row trimmed."),
        ({"left out": 1_000}, "1,000 rows left out."),
        ({"left out": 0}, "Nothing had to be changed."),
    ],
)
def test_done_sentence(counts, sentence):
    assert done_sentence(counts) == sentence


CALL = {"name": "f", "arguments": {"x": " 1 "}}
SPACED = {
    "messages": [
        {"role": "user", "content": " q "},
        {"role": "assistant", "content": "Wait.\n", "tool_calls": [CALL]},
        {"role": "tool", "content": " 7 "},
        {"role": "assistant", "content": " a\n"},
    ],
    "conversations": [{"from": "human", "value": " q "}, {"from": "Chatbot", "value": " a "}],
    "contents": [
        {"role": "user", "parts": [{"text": " q "}]},
        {"role": "model", "parts": [{"text": " hm ", "thought": True}, {"text": " a "},
                                    {"text": " b "}]},
    ],
    "dialogue": [["human", " q "], ["gpt", " a "]],
    "conversation": [{"human": " q ", "assistant": " a "}],
    "chat": {"role": ["user", "assistant"], "content": [" q ", " a "]},
}  # fmt: skip


@pytest.mark.parametrize("write", [lambda cell: cell, json.dumps, repr], ids=["", "json", "repr"])
@pytest.mark.parametrize("column", SPACED)
def test_trimming_does_what_the_finding_said_in_every_dialect(home, column, write):
    rows = [{column: write(SPACED[column])}, {column: write(SPACED[column])}]
    dataset = create_from_rows(home, rows, name="spaced")
    assert dataset.rows_of_code("outer_space") == [1, 2]
    fixed = apply_fixes(home, dataset.id, {"outer_space": "trim"})
    assert fixed.rows_of_code("outer_space") == [] and fixed.done == "2 rows trimmed."
    before, after = dataset.example(1).messages, fixed.example(1).messages
    for one, other in zip(before, after, strict=True):
        answer = one["role"] == "assistant"
        assert other["content"] == (one["content"].strip() if answer else one["content"])
        assert {**one, "content": ""} == {**other, "content": ""}


def test_an_answer_of_calls_has_no_white_space(home):
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    unlearned = {"role": "assistant", "content": " a", "loss": False}
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    rows = [
        {"messages": [user, calling, {"role": "tool", "content": {"y": 7}}, answer]},
        {"messages": [user, calling]},
        {"messages": [user, unlearned, user, answer]},
        {"messages": [user, {**calling, "content": " "}, user, answer]},
    ]
    assert create_from_rows(home, rows, name="calls").rows_of_code("outer_space") == []


def test_what_a_reader_says_of_rows_is_a_finding(home):
    user = {"role": "user", "content": "q"}
    rows = [{"messages": [user, {"role": "assistant", "content": "a", "mood": "good"}]}] * 2
    dataset = create_from_rows(home, rows, name="noted")
    (found,) = [problem for problem in dataset.problems if problem.code == "unread_keys"]
    assert found.rows == (1, 2) and "“mood”" in found.what and found.severity == "info"


def test_a_set_without_a_usable_row_is_refused_with_the_code_of_the_reason(home):
    rows = [{"messages": [{"role": "wizard", "content": "x"}]}]
    with pytest.raises(UserError, match="unknown role “wizard”") as caught:
        create_from_rows(home, rows, name="wizards")
    assert caught.value.code == "unusable_row"
