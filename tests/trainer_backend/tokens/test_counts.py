"""Counting tokens of whole datasets: what training encodes, refusals by row, any limit."""

import json

import numpy as np
import pytest

from trainer_backend.data.store.length_report import NOT_LEARNED, LengthReport, read_report
from trainer_backend.data.store.uploads import create_dataset
from trainer_backend.errors import UserError
from trainer_backend.home import open_home
from trainer_backend.tokens import counts as counting
from trainer_backend.tokens.counts import token_lengths
from trainer_backend.tokens.encode import encode

REASON = "System message must come first."
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('System message must come first') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat(*turns):
    names = {"u": "user", "a": "assistant", "s": "system"}
    return [{"role": names[turn[0]], "content": turn[2:]} for turn in turns]


def store(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return create_dataset(open_home(tmp_path / "home"), path)


@pytest.fixture
def dataset(tmp_path):
    rows = [
        chat(f"u:Question {at}" + " é" * at, "a:" + "answer " * (at % 7 + 1)) for at in range(60)
    ]
    rows.append(chat("s:Be brief.", "u:One", "a:Two three", "u:Four", "a:Five"))
    return store(tmp_path, [{"messages": row} for row in rows])


def test_numbers_are_those_of_training(dataset, tokenizer):
    report = token_lengths(dataset, tokenizer, system_prompt="Answer.")
    assert report.rows.tolist() == list(range(1, 62)) and report.failures == []
    for at, example in enumerate(dataset.examples()):
        turns = example.messages
        if turns[0]["role"] != "system":
            turns = [*chat("s:Answer."), *turns]
        one = encode({"messages": turns}, tokenizer, assistant_only_loss=True)
        learned = [place for place, label in enumerate(one.labels) if label != -100]
        assert report.total[at] == one.length and report.trained[at] == len(learned)
        assert report.first[at] == learned[0] and report.end[at] == learned[-1] + 1


@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
def test_of_a_conversation_only_the_last_answer_may_count(dataset, tokenizer, mode):
    usual = token_lengths(dataset, tokenizer)
    counts = counting.iter_token_lengths(
        dataset, counting.CountJob(dataset.examples_path, tokenizer, last_turn_only=True)
    )
    with pytest.raises(StopIteration) as end:
        while True:
            next(counts)
    report = end.value.value
    assert report.key != usual.key and report.trained[:60].tolist() == usual.trained[:60].tolist()
    row = list(dataset.examples())[60]
    example = {"messages": row.messages}
    learned = encode(example, tokenizer, assistant_only_loss=True, last_turn_only=True)
    assert report.trained[60] == learned.num_learned < usual.trained[60]
    for limit in (4, 12, 25):
        options = {"assistant_only_loss": True, "last_turn_only": True, "max_length": limit}
        made = [
            encode({"messages": one.messages}, tokenizer, truncation_mode=mode, **options)
            for one in dataset.examples()
        ]
        cut = report.kept(mode).at(limit)
        assert cut.tokens == sum(len(one.input_ids) for one in made)
        assert cut.lost == sum(one.num_learned == 0 for one in made)
        assert cut.trained == sum(one.num_learned for one in made)


def test_any_limit_gives_what_cutting_gives(dataset, tokenizer):
    report = token_lengths(dataset, tokenizer)
    whole = [example.messages for example in dataset.examples()]
    for limit in (8, 30, 64, 100, 10_000):
        kept = [
            encode({"messages": one}, tokenizer, assistant_only_loss=True, max_length=limit)
            for one in whole[:-1]  # the last has two answers: cut between them it is an estimate
        ]
        last = encode({"messages": whole[-1]}, tokenizer, assistant_only_loss=True)
        cut = report.at(limit)
        assert cut.rows == 61 and cut.failed == 0
        assert cut.cut == sum(one.length > limit for one in [*kept, last])
        assert cut.lost == sum(one.num_learned == 0 for one in kept) + (report.first[-1] >= limit)
        assert cut.tokens == sum(len(one.input_ids) for one in kept) + min(limit, last.length)
        between = cut.trained - sum(one.num_learned for one in kept)
        assert 0 <= between <= last.num_learned and cut.context == cut.tokens - cut.trained


def test_text_trains_all_but_the_first_token(tmp_path, tokenizer):
    report = token_lengths(store(tmp_path, [{"text": "The capital"}] * 3), tokenizer)
    assert (report.first == 1).all() and (report.trained == report.total - 1).all()


@pytest.mark.parametrize("bad", [{3}, set(range(2, 12)), set(range(30))])
def test_refusals_are_told_row_by_row(tmp_path, tokenizer, bad):
    tokenizer.chat_template = STRICT
    odd, good = chat("u:a", "s:b", "a:c"), chat("u:a", "a:c")
    dataset = store(tmp_path, [{"messages": odd if at in bad else good} for at in range(30)])
    report = token_lengths(dataset, tokenizer)
    assert [row for row, _ in report.failures] == [at + 1 for at in sorted(bad)]
    assert {reason for _, reason in report.failures} == {REASON}
    (problem,) = [one for one, _ in report.problems(512, "x") if one.code == "template_error"]
    assert problem.count == len(bad) and "System message must come first" in problem.fix
    assert report.at(512).rows == 30 - len(bad) and report.at(512).failed == len(bad)


@pytest.mark.parametrize(
    ("written", "extra", "said"),
    [
        ("(1 // m.get('extra', 1)) | string", 0, "ZeroDivisionError"),  # names no row
        ("m.get('extra', '')", 7, 'can only concatenate str (not "int") to str'),
    ],
)
def test_any_error_of_a_template_is_found_by_its_row(tmp_path, tokenizer, written, extra, said):
    tokenizer.chat_template = STRICT.replace("m['content'] +", f"m['content'] + {written} +")
    rows = [chat("u:a", "a:c") for _ in range(8)]
    rows[4][1]["extra"] = extra
    report = token_lengths(store(tmp_path, [{"messages": row} for row in rows]), tokenizer)
    assert [row for row, _ in report.failures] == [5] and said in report.failures[0][1]


def test_problems_and_advice_come_from_the_numbers(dataset, tokenizer):
    report = token_lengths(dataset, tokenizer)
    assert report.problems(10_000, "x") == []
    limit = int(np.sort(report.total)[30])
    found = {one.code: (one, rows) for one, rows in report.problems(limit, "rows.jsonl")}
    over, rows = found["over_length"]
    assert over.count == report.at(limit).cut == len(rows) and f"{limit} tokens" in over.what
    assert f"longest has {report.total.max()} tokens" in over.fix and over.switches == ("drop",)
    assert f"none is cut at {report.shortest_limit()}" in over.fix
    assert report.at(report.shortest_limit()).cut == 0 < report.at(report.shortest_limit() - 64).cut
    found = {one.code: one for one, _ in report.problems(10, "rows.jsonl")}
    assert found["no_answer_left"].count == report.at(10).lost > 0


def test_rows_that_teach_nothing_are_named():
    numbers = np.array([[5, 6], [NOT_LEARNED, 3], [0, 6], [0, 3]], np.int32)
    report = LengthReport(np.array([1, 2]), *numbers)
    ((problem, which),) = report.problems(512, "x")
    assert problem.code == "nothing_learned" and which.tolist() == [1]
    assert report.at(4).lost == 0 and report.at(3).lost == 1 and report.at(4).trained == 1


def test_case_69_control_tokens_of_this_model_in_a_text_are_counted(tmp_path, tokenizer):
    rows = [chat("u:a", "a:b"), chat("u:a<|im_end|>", "a:b"), chat("u:a", "a:<|endoftext|>")]
    rows.append(chat("u:<|eot_id|>", "a:b"))  # of another model: plain text here
    report = token_lengths(store(tmp_path, [{"messages": row} for row in rows]), tokenizer)
    found = {one.code: one for one, _ in report.problems(512, "x")}
    assert set(found) == {"model_tokens"} and found["model_tokens"].rows == (2, 3)
    assert "encoded as plain text" in found["model_tokens"].what
    kept = token_lengths(
        store(tmp_path, [{"messages": row} for row in rows]), tokenizer, control_tokens="tokens"
    )
    assert kept.problems(512, "x") == [] and kept.total.tolist() != report.total.tolist()


def test_histogram():
    total = np.array([1, 5, 5, 9, 0], np.int32)
    report = LengthReport(np.arange(5), total, total, total, total, failures=[(5, "no")])
    counts, edges = report.histogram(5)
    assert counts.sum() == 4 and edges.tolist() == [0, 2, 4, 6, 8, 10]
    empty = LengthReport(*[np.empty(0, np.int32)] * 5)
    assert (
        empty.histogram()[0].sum() == 0 and empty.at(5).rows == 0 and empty.problems(1, "x") == []
    )


def test_counted_once_for_all_it_depends_on(dataset, tokenizer, monkeypatch):
    said = []
    first = token_lengths(dataset, tokenizer, on_progress=lambda *done: said.append(done))
    assert said[0] == (0, 61) and said[-1] == (61, 61)
    stored = read_report(dataset.dir, first.key)
    assert stored.total.tolist() == first.total.tolist() and stored.failures == first.failures
    monkeypatch.setattr(counting, "_count", None)
    assert token_lengths(dataset, tokenizer).key == first.key
    with pytest.raises(TypeError):  # something else is not taken from what was stored
        token_lengths(dataset, tokenizer, system_prompt="Be kind.")
    tokenizer.chat_template += " "
    with pytest.raises(TypeError):
        token_lengths(dataset, tokenizer)
    with pytest.raises(UserError):
        read_report(dataset.dir, "0" * 16)


def test_several_processes_count_the_same(tmp_path, tokenizer, monkeypatch):
    tokenizer.chat_template = STRICT
    texts = ["word " * 400 + str(at) for at in range(4_000)]
    rows = [{"messages": chat(f"u:{text}", "a:c")} for text in texts]
    rows[3_000] = {"messages": chat("u:a", "s:b", "a:c")}
    dataset = store(tmp_path, rows)
    alone = token_lengths(dataset, tokenizer)
    next(dataset.dir.glob("tokens-*.npz")).unlink()
    monkeypatch.setattr(counting, "ROWS_FOR_ONE_MORE", 1)
    monkeypatch.setattr(counting.os, "cpu_count", lambda: 2)
    together = token_lengths(dataset, tokenizer)
    for name in ("rows", "total", "first", "end", "trained"):
        assert np.array_equal(getattr(alone, name), getattr(together, name))
    assert alone.failures == together.failures == [(3_001, REASON)]


def test_a_counting_process_that_dies_is_an_error_in_words(dataset, tokenizer, monkeypatch):
    monkeypatch.setattr(counting, "ROWS_FOR_ONE_MORE", 1)
    monkeypatch.setattr(counting.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(counting, "_start", lambda job, share: _dying())
    job = counting.CountJob(dataset.examples_path, tokenizer)
    with pytest.raises(UserError, match="stopped early"):
        list(counting._count(job, [0, 1], 100))


def _dying():
    import subprocess
    import sys

    return subprocess.Popen(
        [sys.executable, "-c", "import os; os._exit(9)"], stdout=subprocess.PIPE
    )
