"""Corrected answers as rows: exact messages, replaced, taken back, refused."""

import pytest

from trainer_backend.corrections.correction import Wrong, as_row, question_key, read_calls
from trainer_backend.corrections.kept import keep_correction, kept_for, subject_of, take_back
from trainer_backend.data.store import edit_rows, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.models.loaded.asking import AskedWith, build_prompt
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.tokens.encode import encode
from trainer_backend.tokens.training_rows import training_row

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
CALL = {"name": "look_up", "arguments": {"city": "Paris"}}


def wrong(run, text="What is 3?", said="Four", **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return Wrong(run.id, messages, Answer(said), **more)


def test_a_correction_is_a_row_with_all_that_was_asked(home, run):
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Weather in Paris?"},
    ]
    given = wrong(run, messages=asked, tools=TOOLS, checkpoint=4, place="evaluation", row=17)
    kept = keep_correction(home, given, Answer("", "I need a tool.", [CALL]))
    stored = kept.dataset
    assert stored.name == "corrections to numbers" and stored.format == "messages"
    assert stored.version == 1 and kept.said == "A correction was added."
    (example,) = stored.examples()
    called = {"id": "call00001", "type": "function", "function": CALL}
    answer = {"role": "assistant", "content": "", "tool_calls": [called],
              "reasoning_content": "I need a tool."}  # fmt: skip
    # the model's earlier answer is read, but not learned
    assert example.messages == [*asked[:2], {**asked[2], "train": False}, asked[3], answer]
    assert example.tools == TOOLS
    (one,) = kept.corrections
    assert (one.number, one.run, one.checkpoint, one.place, one.row, one.said) == (
        1, run.id, 4, "evaluation", 17, "Four",
    )  # fmt: skip
    assert one.question == "Weather in Paris?" and one.answer.calls == [CALL]
    assert kept_for(run).corrections == kept.corrections


def test_the_same_question_again_replaces_and_versions_grow(home, run):
    keep_correction(home, wrong(run), Answer("Three"))
    keep_correction(home, wrong(run, "What is 4?"), Answer("Four!"))
    kept = keep_correction(home, wrong(run), Answer(" 3 "))
    assert [(one.number, one.answer.content) for one in kept.corrections] == [
        (1, "3"),
        (2, "Four!"),
    ]
    assert kept.dataset.version == 3 and kept.said == "A correction was replaced."
    assert [one["what"] for one in kept.dataset.lineage()] == ["Corrections"] * 3
    other_system = [
        {"role": "system", "content": "Rhyme."},
        {"role": "user", "content": "What is 3?"},
    ]
    kept = keep_correction(home, wrong(run, messages=other_system), Answer("Three, you see"))
    assert [one.number for one in kept.corrections] == [1, 2, 3]


def test_a_correction_is_taken_back_and_the_last_one_too(home, run):
    keep_correction(home, wrong(run), Answer("Three"))
    keep_correction(home, wrong(run, "What is 4?"), Answer("Four!"))
    kept = take_back(run, 1)
    assert [one.question for one in kept.corrections] == ["What is 4?"]
    with pytest.raises(UserError, match="no correction 1"):
        take_back(run, 1)
    assert take_back(run, 2).corrections == [] and kept_for(run).dataset is None
    assert keep_correction(home, wrong(run), Answer("Three")).corrections[0].number == 1


@pytest.mark.parametrize(
    "said, right, what",
    [
        (Answer("Four"), Answer(" Four\n"), "the model's own answer"),
        (Answer("", "", [CALL]), Answer("", "", [CALL]), "the model's own answer"),
        (Answer("Four"), Answer("  "), "is empty"),
        (Answer("Four"), Answer("\ud800"), "character"),
    ],
)
def test_what_teaches_nothing_is_refused_in_words(home, run, said, right, what):
    given = Wrong(run.id, [{"role": "user", "content": "What is 3?"}], said)
    with pytest.raises(UserError) as caught:
        keep_correction(home, given, right)
    assert what in caught.value.what and kept_for(run).corrections == []


def test_a_changed_call_or_reasoning_is_a_correction():
    said = Answer("", "Hm.", [CALL])
    given = Wrong("run-1", [{"role": "user", "content": "?"}], said)
    for right in (Answer("", "Hm.", [{**CALL, "arguments": {}}]), Answer("", "Oh.", [CALL])):
        assert as_row(1, given, right)["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize(
    "messages", [[], [{"role": "system", "content": "x"}], [{"role": "user", "content": " "}]]
)
def test_a_conversation_without_a_question_is_refused(home, run, messages):
    with pytest.raises(UserError):
        keep_correction(home, wrong(run, messages=messages), Answer("Three"))


def test_runs_on_another_version_of_the_data_share_the_corrections(home, dataset, run):
    keep_correction(home, wrong(run), Answer("Three"))
    edited = edit_rows(home, dataset.id, drops=[2])
    other = create_run(home, Recipe(max_steps=4), edited)
    assert subject_of(edited) == subject_of(dataset)
    assert len(kept_for(other).corrections) == 1


def test_a_picture_is_kept_with_its_correction(home, run, tmp_path):
    from PIL import Image

    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4), "red").save(picture)
    asked = [{"role": "user", "content": "What is it?", "images": [str(picture)]}]
    kept = keep_correction(home, wrong(run, messages=asked), Answer("Red"))
    keep_correction(home, wrong(run), Answer("Three"))
    first = next(open_dataset(home, kept_for(run).dataset.id).examples())
    assert first.messages[0]["content"] == "<image>What is it?" and len(first.images) == 1
    assert (kept_for(run).dataset.dir / first.images[0]).is_file()
    picture.unlink()
    with pytest.raises(UserError, match="picture"):
        keep_correction(home, wrong(run, messages=asked), Answer("A red square"))
    assert kept.corrections[0].question == "What is it?"


def test_training_encodes_the_question_as_the_chat_asked_it(home, run, tokenizer):
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "What is 3?"},
    ]
    kept = keep_correction(home, wrong(run, messages=asked), Answer("Three"))
    row = training_row(next(kept.dataset.examples()))
    encoded = encode(row, tokenizer, assistant_only_loss=True)
    prompt = build_prompt(asked, tokenizer, AskedWith()).ids
    assert encoded.input_ids[: len(prompt)] == prompt
    learned = [one for one in encoded.labels if one != -100]
    assert tokenizer.decode(learned) == "Three<|im_end|>"  # and not “Hi.”


def test_calls_are_read_from_json():
    assert read_calls(" ") == [] and read_calls('{"name": "a", "arguments": {}}')[0]["name"] == "a"
    for text in ("[", '[{"name": 3, "arguments": {}}]', '[{"name": "a"}]', "7"):
        with pytest.raises(UserError):
            read_calls(text)


def test_questions_are_told_apart_by_what_is_said():
    asked = [{"role": "user", "content": " What? "}]
    with_call = [*asked, {"role": "assistant", "content": "", "tool_calls": [{"id": "a", **CALL}]}]
    again = [*asked, {"role": "assistant", "content": "", "train": False, "tool_calls": [CALL]}]
    assert question_key(asked, []) == question_key([{"role": "user", "content": "What?"}], None)
    assert question_key(with_call, None) == question_key(again, None)
    assert question_key(asked, TOOLS) != question_key(asked, None)
